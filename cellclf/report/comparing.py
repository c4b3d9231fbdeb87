"""Paired differences between models, and what they answer, in computed words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellclf.data.manifest import Split
from cellclf.errors import EvaluationError
from cellclf.evaluation.paired import PairedTest, compare_over_seeds, holm
from cellclf.evaluation.paired_auc import compare_auc
from cellclf.evaluation.scores import ReliabilityBin, reliability_curve
from cellclf.report.figures import Answer, Comparison, Verdict
from cellclf.report.loading import Answered, LoadedRun
from cellclf.report.words import difference, joined, points
from cellclf.studies.contract import Model, differing
from cellclf.studies.study import Question

__all__ = ["LEVEL", "Candidate", "adjusted", "answer", "compare", "comparisons_of", "same_images", "verdict_of"]

LEVEL = 0.05
"""Below it, after Holm's correction, a difference is told apart from none."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model with its runs' content, in the order of its seeds."""

    title: str
    variation: str
    model: Model
    runs: tuple[LoadedRun, ...]

    def answered(self, split: Split) -> Answered:
        """The images of a split, of which every run has the same, and the first run's answers."""
        return self.runs[0].test if split == "test" else self.runs[0].validation

    def probabilities(self, split: Split) -> "np.ndarray[tuple[int, int, int], np.dtype[np.float64]]":
        """[seeds, images, classes]"""
        return np.stack([(run.test if split == "test" else run.validation).probabilities for run in self.runs])

    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """The reliability curve of the test set, all seeds' answers pooled."""
        return reliability_curve(np.concatenate(list(self.probabilities("test"))), np.tile(self.answered("test").truth, len(self.runs)))

    def with_seeds(self, seeds: Sequence[int]) -> "Candidate":
        """The same with some of its seeds only."""
        kept = [number for number, seed in enumerate(self.model.seeds) if seed in seeds]
        model = replace(self.model, runs=tuple(self.model.runs[number] for number in kept))
        return replace(self, model=model, runs=tuple(self.runs[number] for number in kept))


def same_images(first: Candidate, second: Candidate, split: Split = "test") -> bool:
    """Whether both have the same images in that split, in the same order."""
    return first.answered(split).entries == second.answered(split).entries


def compare(first: Candidate, second: Candidate) -> Comparison:
    """first − second in balanced accuracy on the same test images, over the seeds that both have; not yet corrected."""
    seeds = tuple(seed for seed in first.model.seeds if seed in second.model.seeds)
    a, b = first.with_seeds(seeds), second.with_seeds(seeds)
    images = first.answered("test")
    called_a, called_b = (each.probabilities("test").argmax(axis=2) for each in (a, b))
    found = compare_over_seeds(called_a, called_b, images.truth, groups=images.groups, balanced=True)
    weights = 1 / np.bincount(images.truth)[images.truth] / len(np.unique(images.truth))
    by_seed = ((called_a == images.truth).astype(float) - (called_b == images.truth)) @ weights
    return Comparison(
        first=first.title,
        second=second.title,
        seeds=seeds,
        by_seed=tuple(float(value) for value in by_seed),
        a=found.a,
        b=found.b,
        test=found.test,
        adjusted_p=found.test.p_value,
        family=1,
        auc=_areas(a, b),
    )


def _areas(a: Candidate, b: Candidate) -> PairedTest | None:
    """The test of the areas under their ROC curves, of the second of two labels."""
    images, labels = a.answered("test"), a.runs[0].setup.data.labels
    if len(labels) != 2:
        return None
    scores = [each.probabilities("test")[:, :, 1] for each in (a, b)]
    try:
        return compare_auc(scores[0], scores[1], images.truth == 1, groups=images.groups)
    except EvaluationError:
        return None


def adjusted(comparisons: Sequence[Comparison], *, family: int | None = None) -> tuple[Comparison, ...]:
    """The same with p-values corrected for how many there are, or for the `family` that they were picked from (Holm)."""
    of = len(comparisons) if family is None else family
    corrected = holm([comparison.test.p_value for comparison in comparisons], family=family)
    areas = [place for place, comparison in enumerate(comparisons) if comparison.auc]
    of_areas = dict(zip(areas, holm([comparison.auc.p_value for comparison in comparisons if comparison.auc], family=family), strict=True))
    return tuple(
        comparison.model_copy(update={"adjusted_p": p, "family": of, "auc_adjusted_p": of_areas.get(place)})
        for place, (comparison, p) in enumerate(zip(comparisons, corrected, strict=True))
    )


def comparisons_of(question: Question, candidates: dict[str, Candidate]) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Each variation a question names against the first, and why where it cannot be; candidates by variation."""
    reference = candidates.get(question.variations[0])
    if reference is None:
        return (), (f"{question.variations[0]}, with which the others would be compared, has no finished run",)
    found, refused = [], []
    for name in question.variations[1:]:
        other = candidates.get(name)
        reason = f"{name} has no finished run" if other is None else _why_not(other, reference, question.factor)
        if other is None or reason:
            refused.append(reason)
        else:
            found.append(compare(other, reference))
    return tuple(found), tuple(refused)


def answer(
    question: Question, comparisons: Sequence[Comparison], refused: tuple[str, ...], *, leak: str, unit: str, unlearned: Collection[str] = ()
) -> Answer:
    """The question answered in words; comparisons: corrected. unit: what the intervals were drawn over, as '71 groups'.

    unlearned: titles of models that call everything one label.
    """
    verdict: Verdict = max((verdict_of(each) for each in comparisons), key=_STRENGTH.index, default="not asked")
    parts = [f"{each.first} against {each.second}: {difference(each)}{_seeds_say(each)}" for each in comparisons]
    over = _over(comparisons, unit)
    sentence = f"{_OPENING[verdict]}: balanced accuracy, {'; '.join(parts)}; {over}." if comparisons else f"{_OPENING[verdict]}."
    if refused:
        sentence += f" Not compared: {'; '.join(refused)}."
    failed = [title for title in dict.fromkeys(title for each in comparisons for title in (each.first, each.second)) if title in unlearned]
    if failed:
        sentence += f" {joined(failed)} calls every test image the same, so that a difference to it says that it has not learned, and no more."
    if leak and comparisons:
        sentence += f" The test set LEAKS ({leak}): this compares how well they remember, not what a lab would get."
    return Answer(text=question.text, factor=question.factor, verdict=verdict, sentence=sentence, comparisons=tuple(comparisons), refused=refused)


_STRENGTH: list[Verdict] = ["not asked", "not told", "differs", "matters"]
_OPENING: dict[Verdict, str] = {
    "matters": "It matters",
    "differs": "These networks differ on these images, but that it is not the seed cannot be told",
    "not told": "No difference can be told",
    "not asked": "It cannot be answered from these runs",
}


def verdict_of(comparison: Comparison) -> Verdict:
    """A p-value over images says nothing of another seed: a factor matters only where the seeds' ranges do not overlap either."""
    if comparison.adjusted_p >= LEVEL:
        return "not told"
    apart = comparison.a.least > comparison.b.greatest or comparison.b.least > comparison.a.greatest
    return "matters" if len(comparison.seeds) > 1 and apart else "differs"


def _seeds_say(comparison: Comparison) -> str:
    if len(comparison.seeds) < 2 or comparison.adjusted_p >= LEVEL or verdict_of(comparison) == "matters":
        return ""
    return f"; by seed {', '.join(points(value) for value in comparison.by_seed)}"


def _over(comparisons: Sequence[Comparison], unit: str) -> str:
    counts = sorted({len(comparison.seeds) for comparison in comparisons})
    if counts == [1]:
        return f"over {unit}, one seed each"
    return f"over {unit}, each image averaged over {joined([str(count) for count in counts])} seeds"


def _why_not(other: Candidate, reference: Candidate, factor: str) -> str:
    shared = [seed for seed in other.model.seeds if seed in reference.model.seeds]
    if not shared:
        return f"{other.title} and {reference.title} have no seed in common"
    fields = [field for field in differing((other.model, reference.model), (factor,)) if field != "seeds"]
    if fields or not same_images(other, reference):
        return f"{other.title} differs from {reference.title} in more than {factor}: {', '.join(fields) or 'test images'}"
    return ""
