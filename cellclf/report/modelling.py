"""One model's runs → its figures."""

from collections.abc import Sequence

import numpy as np

from cellclf.card import Estimate
from cellclf.data.manifest import Split
from cellclf.environment import Environment
from cellclf.evaluation.paired import Spread, spread
from cellclf.report.averages import accuracy, area_under_roc, balanced_accuracy, mean_confusion, roc_lines
from cellclf.report.comparing import Candidate
from cellclf.report.deciding import by_label, doubts_of, operating_of
from cellclf.report.figures import Curve, ModelFigures, SplitFigures, WantedPoint
from cellclf.report.loading import LoadedRun
from cellclf.studies.study import Published

__all__ = ["card_of", "figures_of", "leak_of"]


def figures_of(candidate: Candidate, *, number: int, published: Published | None, wanted: WantedPoint) -> ModelFigures:
    """Everything a report shows of one model."""
    runs, first = candidate.runs, candidate.runs[0]
    recipe, labels = first.setup.recipe, first.setup.data.labels
    test = candidate.answered("test")
    operating = operating_of(candidate, wanted)
    return ModelFigures(
        number=number,
        title=candidate.title,
        variation=candidate.variation,
        backbone=recipe.backbone,
        image_size_px=recipe.image_size_px,
        hidden=recipe.hidden,
        learning_rate=recipe.learning_rate,
        labels=labels,
        seeds=candidate.model.seeds,
        runs=tuple(run.run.name for run in runs),
        commits=tuple(dict.fromkeys(run.environment.git_commit for run in runs if run.environment.git_commit)),
        conditions=candidate.model.conditions,
        parameters=first.metrics.parameters.total,
        trainable=first.metrics.parameters.trainable,
        epochs_run=_over([run.metrics.epochs_run for run in runs]),
        stopped_early=sum(run.metrics.stopped_early for run in runs),
        train_loss=_over([run.metrics.train_loss for run in runs]),
        train_accuracy=_over([run.metrics.train_accuracy for run in runs]),
        validation=_split(candidate, "validation"),
        test=_split(candidate, "test"),
        learning_time=_over([run.metrics.learning_time.total_s for run in runs]),
        curves=tuple(_curve(run) for run in runs),
        reliability=candidate.reliability(),
        roc=roc_lines(candidate.probabilities("test"), test.truth, labels),
        published=published,
        operating=operating,
        doubts=doubts_of(candidate, operating),
        trained_cores=first.environment.cores,
        trained_gpu=card_of(first.environment),
        fingerprints=tuple(run.fingerprints for run in runs),
        by_label=by_label(candidate),
    )


def leak_of(run: LoadedRun, split: Split) -> str:
    """Why figures on a split are too good, '' where they are not."""
    return "; ".join(leak.reason for leak in run.setup.data.leaks if leak.split == split)


def _split(candidate: Candidate, split: Split) -> SplitFigures:
    answered, probabilities = candidate.answered(split), candidate.probabilities(split)
    recorded = [run.metrics.test if split == "test" else run.metrics.validation for run in candidate.runs]
    return SplitFigures(
        images=len(answered.truth),
        groups=len(set(answered.groups)),
        interval_unit=answered.unit,
        leak=leak_of(candidate.runs[0], split),
        loss=_over([figures.loss for figures in recorded]),
        ece=_over([figures.ece for figures in recorded]),
        accuracy=accuracy(probabilities, answered.truth, answered.groups),
        balanced_accuracy=balanced_accuracy(probabilities, answered.truth, answered.groups),
        auc=area_under_roc(probabilities, answered.truth, answered.groups) if split == "test" else None,
        confusion=mean_confusion(probabilities, answered.truth),
        brier=_over([figures.brier for figures in recorded]),
        average_precision=_over_all([figures.average_precision for figures in recorded]),
    )


def card_of(environment: Environment) -> str | None:
    """The GPU that trained; 'GPU' where its name was not kept."""
    if environment.provider in (None, "CPU"):
        return None
    return environment.gpus[0] if environment.gpus else "GPU"


def _curve(run: LoadedRun) -> Curve:
    rows = run.history
    return Curve(
        seed=run.setup.recipe.seed,
        kept_epoch=run.metrics.weights_epoch,
        train_loss=tuple(row.train_loss for row in rows),
        validation_loss=tuple(row.validation_loss for row in rows),
        train_accuracy=tuple(row.train_accuracy for row in rows),
        validation_accuracy=tuple(row.validation_accuracy for row in rows),
    )


def _over_all(values: Sequence[Estimate | None]) -> Spread | None:
    """None where a run has no such figure."""
    found = [each.value for each in values if each is not None]
    return _over(found) if len(found) == len(values) else None


def _over(values: Sequence[float]) -> Spread:
    return spread(np.array(values, dtype=np.float64))
