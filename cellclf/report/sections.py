"""Models of one data set and protocol → a section: comparable sets, their ranks, the questions, the mistakes."""

from collections.abc import Mapping, Sequence

from cellclf.data.manifest import SPLITS
from cellclf.evaluation.metrics import only_column
from cellclf.report.comparing import Candidate, adjusted, answer, compare, comparisons_of, same_images
from cellclf.report.deciding import why_no_threshold
from cellclf.report.figures import USUAL_POINT, Answer, Comparison, Difference, ModelFigures, RankedSet, Section, SideBySide, WantedPoint
from cellclf.report.mistakes import confident_mistakes
from cellclf.report.modelling import figures_of
from cellclf.report.words import unit
from cellclf.studies.contract import Model, comparable_sets, differing
from cellclf.studies.study import Published, Question

__all__ = ["make_section", "side_by_side"]

_OF_THE_PROTOCOL = ("protocol", "split (fingerprint)", "batch_norm_momentum")
"""Conditions that cannot stay the same when a recipe is run under another protocol."""


def make_section(
    candidates: Sequence[Candidate],
    *,
    factors: tuple[str, ...],
    force: bool,
    questions: Sequence[Question],
    published: Mapping[str, Published | None],
    wanted: WantedPoint = USUAL_POINT,
) -> Section:
    """Everything about these models; published: figures by variation. force: one ranked set, with what differs named."""
    models = tuple(
        figures_of(candidate, number=number, published=published.get(candidate.variation), wanted=wanted)
        for number, candidate in enumerate(candidates, start=1)
    )
    sets = _sets(candidates, models, factors, force)
    best = max(models, key=lambda model: (model.number in sets[0].models, model.test.balanced_accuracy.mean.value))
    records = [run.setup.data for candidate in candidates for run in candidate.runs]
    first = records[0]
    return Section(
        title=" and ".join(dict.fromkeys(f"{record.name}, {record.protocol} split" for record in records)),
        data=", ".join(dict.fromkeys(record.name for record in records)),
        protocol=", ".join(dict.fromkeys(record.protocol for record in records)),
        counts={split: first.counts[split] for split in SPLITS} if len({record.fingerprint for record in records}) == 1 else {},
        leaks=tuple(dict.fromkeys(str(leak) for record in records for leak in record.leaks)),
        notes=_notes(candidates),
        models=models,
        sets=sets,
        answers=_answers(questions, candidates, models),
        mistakes_of=best.title,
        mistakes=confident_mistakes(candidates[best.number - 1], candidates),
        no_threshold=why_no_threshold(first.labels, wanted),
    )


def side_by_side(sections: Sequence[Section]) -> tuple[SideBySide, ...]:
    """Recipes that were run under the random protocol and under another, on the same data."""
    pairs = []
    for section in sections:
        for model in section.models:
            for random in (model for other in sections for model in other.models):
                if random.conditions["protocol"] != "random" or model.conditions["protocol"] == "random" or _recipe(random) != _recipe(model):
                    continue
                pairs.append(
                    SideBySide(
                        title=model.title,
                        data=model.conditions["data"].partition(":")[0],
                        protocol=model.conditions["protocol"],
                        random=random.test.accuracy,
                        random_leak=random.test.leak,
                        other=model.test.accuracy,
                        other_leak=model.test.leak,
                        published=model.published.test_accuracy if model.published else None,
                    )
                )
    return tuple(pairs)


def _recipe(model: ModelFigures) -> tuple[str, dict[str, str]]:
    return model.variation, {name: value for name, value in model.conditions.items() if name not in _OF_THE_PROTOCOL}


def _sets(candidates: Sequence[Candidate], models: Sequence[ModelFigures], factors: tuple[str, ...], force: bool) -> tuple[RankedSet, ...]:
    by_title = {candidate.title: place for place, candidate in enumerate(candidates)}
    everything = [candidate.model for candidate in candidates]
    if force:
        differences = _differences(differing(everything, factors))
        return (_ranked(candidates, models, range(len(models)), shared={}, differences=differences, against_others=()),)
    found = comparable_sets(everything, factors)
    several = [one for one in found if len(one.models) > 1]
    alone = sorted(by_title[one.models[0].name] for one in found if len(one.models) == 1)
    sets = [
        _ranked(
            candidates,
            models,
            [by_title[model.name] for model in one.models],
            shared=one.shared,
            differences=(),
            against_others=_differences(differing((several[0].models[0], one.models[0]), factors)) if one is not several[0] else (),
        )
        for one in several
    ]
    if alone:
        beside = [everything[place] for place in alone] + [one.models[0] for one in several[:1]]
        sets.append(
            RankedSet(
                models=tuple(models[place].number for place in alone),
                ranks=(),
                against_first=(),
                shared=_agreed(beside, factors),
                differences=(),
                against_others=_differences(differing(beside, factors)),
            )
        )
    return tuple(sets)


def _agreed(models: Sequence[Model], factors: tuple[str, ...]) -> dict[str, str]:
    """The conditions in which all of these agree."""
    first = models[0].conditions
    return {name: value for name, value in first.items() if name not in factors and all(model.conditions.get(name) == value for model in models)}


def _ranked(
    candidates: Sequence[Candidate],
    models: Sequence[ModelFigures],
    places: Sequence[int],
    *,
    shared: dict[str, str],
    differences: tuple[Difference, ...],
    against_others: tuple[Difference, ...],
) -> RankedSet:
    values = [models[place].test.balanced_accuracy.mean.value for place in places]
    ranks = [1 + sum(other > value for other in values) for value in values] if len(places) > 1 else []
    return RankedSet(
        models=tuple(models[place].number for place in places),
        ranks=tuple(ranks),
        against_first=_against(candidates[places[ranks.index(1)]], [candidates[place] for place in places]) if ranks else (),
        shared=shared,
        differences=differences,
        against_others=against_others,
    )


def _against(first: Candidate, others: Sequence[Candidate]) -> tuple[Comparison, ...]:
    """Each other model − the first, where both saw the same images and have a seed in common.

    Which model is first was seen on these very images, so that each comparison is one of all pairs.
    """
    pairs = [other for other in others if other is not first and same_images(other, first) and set(other.model.seeds) & set(first.model.seeds)]
    return adjusted([compare(other, first) for other in pairs], family=len(others) * (len(others) - 1) // 2)


def _answers(questions: Sequence[Question], candidates: Sequence[Candidate], models: Sequence[ModelFigures]) -> tuple[Answer, ...]:
    """p-values are corrected over all comparisons of all questions."""
    by_variation: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: -len(candidate.runs)):
        by_variation.setdefault(candidate.variation, candidate)
    asked = [comparisons_of(question, by_variation) for question in questions]
    corrected = iter(adjusted([comparison for comparisons, _ in asked for comparison in comparisons]))
    test = models[0].test
    unlearned = {model.title for model in models if only_column(model.test.confusion) is not None}
    return tuple(
        answer(question, [next(corrected) for _ in comparisons], refused, leak=test.leak, unit=unit(test), unlearned=unlearned)
        for question, (comparisons, refused) in zip(questions, asked, strict=True)
    )


def _differences(found: Mapping[str, Mapping[str, tuple[str, ...]]]) -> tuple[Difference, ...]:
    return tuple(Difference(field=field, values=dict(values)) for field, values in found.items())


def _notes(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    records = [run.setup.data for candidate in candidates for run in candidate.runs]
    skipped = max(len(record.skipped) for record in records)
    recovered = any(record.groups_source == "recovered" for record in records)
    found = ("Groups are not given with the data: they were recovered from the pixels, which may join or part some wrongly.",) if recovered else ()
    bad = (f"{skipped} images could not be used and were left out.",) if skipped else ()
    return (*dict.fromkeys(note for record in records for note in record.notes), *found, *bad)
