"""What a report says, as one stored document: every table, sentence and plot is made from it, and it from run folders. Inert data."""

from typing import Literal

from pydantic import Field

from cellclf.card import CoveragePoint, Estimate
from cellclf.documents import Document
from cellclf.evaluation.metrics import IntervalUnit
from cellclf.evaluation.paired import PairedTest, Spread
from cellclf.evaluation.scores import ReliabilityBin
from cellclf.studies.study import Published

__all__ = [
    "USUAL_POINT",
    "Answer",
    "Comparison",
    "Curve",
    "Decided",
    "Difference",
    "Doubt",
    "Failed",
    "Figure",
    "Mistake",
    "ModelFigures",
    "Operating",
    "RankedSet",
    "Report",
    "RocLine",
    "Section",
    "SideBySide",
    "SplitFigures",
    "Verdict",
    "WantedPoint",
]

Verdict = Literal["matters", "differs", "not told", "not asked"]
"""matters: the test and all seeds agree; differs: on these images, but seeds overlap or there is one; not asked: it cannot be answered from these."""


class Figure(Document):
    """A figure averaged over a model's seeds: `mean` with its 95 % interval over groups, and its spread over the seeds."""

    mean: Estimate
    spread: Spread


class RocLine(Document):
    """Sensitivity of one label against the rest at the fall-outs 0, 1/(n − 1) … 1, averaged over seeds (Fawcett 2006, vertical averaging)."""

    label: str
    sensitivity: tuple[float, ...]


class SplitFigures(Document):
    """One model on one split. leak: why its figures are too good, '' where they are not. confusion: images, averaged over seeds.

    average_precision: as SplitMetrics says; None where a run has none. It and brier are None in reports that were written before there were any.
    """

    images: int
    groups: int
    interval_unit: IntervalUnit
    leak: str
    loss: Spread
    ece: Spread
    accuracy: Figure
    balanced_accuracy: Figure
    auc: Figure | None
    confusion: tuple[tuple[float, ...], ...]
    brier: Spread | None = None
    average_precision: Spread | None = None


class WantedPoint(Document):
    """The operating point that is asked of every model; positive None: of two labels the second, of more none."""

    min_sensitivity: float = 0.95
    positive: str | None = None


USUAL_POINT = WantedPoint()
"""What is asked where nothing else is said."""


class Decided(Document):
    """What was called on the test set, averaged over seeds, with intervals over groups; None where there was no chance to be right.

    f1: of images summed over seeds; None in reports that were written before there was one, too.
    """

    sensitivity: Estimate | None
    specificity: Estimate | None
    accuracy: Estimate
    ppv: Estimate | None
    npv: Estimate | None
    f1: Estimate | None = None


class Operating(Document):
    """A model at the usual threshold (the most probable label) and at the one chosen on validation for `min_sensitivity`.

    thresholds: one a run. chosen: None where none can be chosen, and `refused` says why. share_positive: of the test set.
    """

    positive: str
    share_positive: float
    min_sensitivity: float
    usual: Decided
    thresholds: tuple[float, ...]
    chosen: Decided | None
    refused: str


class Doubt(Document):
    """Answers left to a person. rule: what calls the images. curve: coverage against error on the test set, the most certain first, mean over seeds.

    coverage, error: what the band that answers at least `min_coverage` of the validation images with the least error comes to on the test set.
    """

    rule: str
    curve: tuple[CoveragePoint, ...]
    min_coverage: float
    coverage: Estimate
    error: Estimate | None


class Curve(Document):
    """The history of one run, a value an epoch; kept_epoch is the one whose weights were kept."""

    seed: int
    kept_epoch: int
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]


class Mistake(Document):
    """A test image that a model gets wrong with confidence. called, probability: by the mean over seeds.

    path: relative to the data's root. models_wrong: how many of the `models` that saw the same images call it wrongly.
    """

    path: str
    sha256: str
    label: str
    called: str
    probability: float
    models_wrong: int
    models: int


class ModelFigures(Document):
    """One model: runs that differ in their seed alone.

    number: its place in the section, from 1. backbone: its name in BACKBONES. variation: its name in the study, '' outside one. conditions: as
    the same-conditions contract names them. reliability and roc are of the test set. Learning time in seconds, on a
    machine of trained_cores; trained_gpu: the card that trained it, None for none. fingerprints: of recipe and data, a pair a run. by_label: each
    label against the rest on the test set, by the most probable label; accuracy is that of all labels.
    """

    number: int
    title: str
    variation: str
    backbone: str
    image_size_px: int
    hidden: tuple[int, ...]
    learning_rate: float
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    commits: tuple[str, ...]
    conditions: dict[str, str]
    parameters: int
    trainable: int
    epochs_run: Spread
    stopped_early: int
    train_loss: Spread
    train_accuracy: Spread
    validation: SplitFigures
    test: SplitFigures
    learning_time: Spread
    curves: tuple[Curve, ...]
    reliability: tuple[ReliabilityBin, ...]
    roc: tuple[RocLine, ...]
    published: Published | None
    operating: Operating | None = None
    doubts: tuple[Doubt, ...] = ()
    trained_cores: int | None = None
    trained_gpu: str | None = None
    fingerprints: tuple[tuple[str, str], ...] = ()
    by_label: dict[str, Decided] = Field(default_factory=dict)


class Comparison(Document):
    """Two models on the same test images, first − second, in balanced accuracy.

    adjusted_p: Holm's, over `family` comparisons. by_seed: the difference of each seed. a, b: each model's own figure over the seeds. auc: of two
    labels, the difference of the areas of the second; None where it cannot be tested, and of more labels.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    a: Spread
    b: Spread
    test: PairedTest
    adjusted_p: float
    family: int
    auc: PairedTest | None = None
    auc_adjusted_p: float | None = None


class Answer(Document):
    """A question of the study, answered; `refused`: why a variation cannot be compared with the first."""

    text: str
    factor: str
    verdict: Verdict
    sentence: str
    comparisons: tuple[Comparison, ...]
    refused: tuple[str, ...]


class Difference(Document):
    """A condition in which models differ: each value with the models that have it."""

    field: str
    values: dict[str, tuple[str, ...]]


class RankedSet(Document):
    """Models of one table. ranks: by test balanced accuracy; empty where they may not be ranked, each having no other that is comparable.

    against_first: every other ranked model − the first one. shared: conditions they agree in. differences: those in which they differ although they
    should not (a forced ranking). against_others: what sets them apart from the first set of the section, or from each other.
    """

    models: tuple[int, ...]
    ranks: tuple[int, ...]
    against_first: tuple[Comparison, ...]
    shared: dict[str, str]
    differences: tuple[Difference, ...]
    against_others: tuple[Difference, ...]


class Section(Document):
    """All models of one data set under one protocol (or of several, where a ranking was forced). no_threshold: why none has an operating point."""

    title: str
    data: str
    protocol: str
    counts: dict[str, dict[str, int]]
    leaks: tuple[str, ...]
    notes: tuple[str, ...]
    models: tuple[ModelFigures, ...]
    sets: tuple[RankedSet, ...]
    answers: tuple[Answer, ...]
    mistakes_of: str
    mistakes: tuple[Mistake, ...]
    no_threshold: str = ""


class SideBySide(Document):
    """One recipe under two protocols: the random one, whose test set leaks, and another. Test accuracies."""

    title: str
    data: str
    protocol: str
    random: Figure
    random_leak: str
    other: Figure
    other_leak: str
    published: float | None


class Failed(Document):
    """A run of which there is no result, and why."""

    run: str
    state: str
    reason: str


class Report(Document):
    """report.json. title, study, letter: of the study, or '' for runs that were named. commands: what made the runs and this page."""

    format: Literal[1] = 1
    title: str
    study: str
    letter: str
    scale: str
    factors: tuple[str, ...]
    published_protocol: str
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    hardware: tuple[str, ...]
    software: tuple[str, ...]
    commits: tuple[str, ...]
    sections: tuple[Section, ...]
    side_by_side: tuple[SideBySide, ...]
    failed: tuple[Failed, ...]
