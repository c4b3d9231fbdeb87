"""What a report comes to, in computed sentences."""

from cellclf.evaluation.metrics import one_answer, only_column
from cellclf.report.comparing import LEVEL, verdict_of
from cellclf.report.figures import ModelFigures, RankedSet, Report, Section
from cellclf.report.words import figure, joined, percent, points, unit

__all__ = ["in_short", "methods"]


def in_short(report: Report) -> tuple[str, ...]:
    """A sentence a section, one for each model that has not learned, for what the leak is worth, and for runs without a result."""
    found = [_best(section, ranked) for section in report.sections for ranked in section.sets[:1]]
    found += [sentence for section in report.sections for model in section.models for sentence in _has_not_learned(section, model)]
    found += _several_versions(report)
    found += _leak(report)
    if report.failed:
        total = len(report.failed) + sum(len(model.runs) for section in report.sections for model in section.models)
        found.append(f"{len(report.failed)} of {total} runs have no result here; they are listed below with their reasons.")
    return tuple(found)


def methods(report: Report) -> tuple[str, ...]:
    """How the figures came about, true to this report."""
    several = any(len(model.seeds) > 1 for section in report.sections for model in section.models)
    drawn = dict.fromkeys(unit(model.test) for section in report.sections for model in section.models)
    texts = [
        f"In brackets: 95 % percentile bootstrap over {' / '.join(drawn)}, drawn whole, because images of one group are not independent; "
        "an accuracy of 0 or 100 % has the exact binomial bound, other figures without spread have none.",
    ]
    if several:
        texts.append(
            "Several seeds: an image counts as right by the share of the seeds that have it right, and groups are drawn of that; "
            "± is the standard deviation over seeds, which the intervals and p-values do not hold."
        )
    texts += [
        "Ranks follow balanced accuracy on the test set, and only within a set of models that agree in everything but "
        f"{', '.join(report.factors)}. Figures on the test set choose nothing: to choose a model use cellclf choose.",
        "Paired differences: both models on the same test images, exchanged in whole groups (permutation test), p-values corrected by Holm "
        "over the comparisons of their table, those against the first, which these images picked, over all pairs of its set; "
        f"below {LEVEL} a difference is told apart from none. It is said to matter only where the seeds' ranges do not overlap either. "
        "Areas of two labels: Obuchowski's test for clustered images, which is DeLong's where each group is one image, of the means over seeds, "
        "corrected in the same way.",
        "Training figures are means over the last epoch, dropout and augmentation on. ECE: 15 bins of equal width. AUC: of two labels the "
        "second's, of more the mean of each against the rest. Learning time: reading and decoding, compiling, and the epochs with validation.",
    ]
    return tuple(texts)


def _best(section: Section, ranked: RankedSet) -> str:
    models = {model.number: model for model in section.models}
    leak = _leaks(models[ranked.models[0]])
    if not ranked.ranks and len(section.models) > 1:
        fields = dict.fromkeys(difference.field for each in section.sets for difference in each.against_others)
        values = sorted(model.test.balanced_accuracy.mean.value for model in section.models)
        reached = f"balanced accuracies from {percent(values[0])} to {percent(values[-1])} %{leak}"
        return f"{_heading(section)}: {reached}; the {len(values)} models are not ranked, because they differ in {joined(list(fields))}."
    if not ranked.ranks:
        only = models[ranked.models[0]]
        return f"{_heading(section)}: {only.title} has a balanced accuracy of {figure(only.test.balanced_accuracy)} %{leak}."
    first = models[ranked.models[ranked.ranks.index(1)]]
    rest, tested = len(ranked.models) - 1, len(ranked.against_first)
    verdicts = [verdict_of(comparison) for comparison in ranked.against_first]
    alike, seeds = verdicts.count("not told"), verdicts.count("differs")
    parts = [f"{alike} of the {rest} others cannot be told from it"] if alike else []
    parts += [f"{seeds} of the {rest} differ from it on these images, but that it is not the seed cannot be told"] if seeds else []
    parts += [f"{rest - tested} saw other test images"] if tested < rest else []
    told = " and ".join(parts) or "all others can be told from it"
    forced = "; the ranking was forced although conditions differ" if ranked.differences else ""
    return f"{_heading(section)}: {first.title} is first with a balanced accuracy of {figure(first.test.balanced_accuracy)} %{leak}; {told}{forced}."


def _several_versions(report: Report) -> list[str]:
    """Runs that different states of the code made agree in everything that the contract knows."""
    known = [commit for commit in report.commits if commit != "unknown"]
    changed = sum(commit.endswith("-dirty") for commit in known)
    if len(known) < 2 and not changed:
        return []
    parts = [f"by {len(known)} versions of the code"] if len(known) > 1 else []
    parts += [f"{'' if len(known) < 2 else f'{changed} of them '}with changes that no commit holds"] if changed else []
    return [f"These runs were made {', '.join(parts)}: differences between models, of learning time above all, may be the code's."]


def _has_not_learned(section: Section, model: ModelFigures) -> list[str]:
    """A model that gives one answer to everything: its accuracy is that label's share."""
    number = only_column(model.test.confusion)
    if number is None:
        return []
    auc = model.test.auc.mean.value if model.test.auc else None
    return [f"{_heading(section)}: {one_answer(model.title, 'every test image', model.labels[number], auc=auc)}."]


def _heading(section: Section) -> str:
    return section.title[:1].upper() + section.title[1:]


def _leaks(model: ModelFigures) -> str:
    return " (the test set LEAKS)" if model.test.leak else ""


def _leak(report: Report) -> list[str]:
    gaps = sorted(pair.random.mean.value - pair.other.mean.value for pair in report.side_by_side)
    if not gaps:
        return []
    protocols = " or ".join(dict.fromkeys(pair.protocol for pair in report.side_by_side))
    leaks = ", whose test set LEAKS," if any(pair.random_leak for pair in report.side_by_side) else ""
    mean = sum(gaps) / len(gaps)
    spread = f" on average (from {points(gaps[0])} to {points(gaps[-1])}, {len(gaps)} recipes)" if len(gaps) > 1 else ""
    side = "above" if mean >= 0 else "below"
    return [
        f"Under the random protocol{leaks} test accuracy is {percent(abs(mean))} points {side} that of the same recipe under {protocols}{spread}."
    ]
