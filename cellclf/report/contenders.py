"""What a choice is made under and what comes of it, as stored documents. Inert data."""

from cellclf.card import Estimate
from cellclf.data.manifest import Split
from cellclf.documents import Document
from cellclf.evaluation.paired import PairedTest, Spread
from cellclf.report.comparing import LEVEL
from cellclf.report.costing import BreakEven
from cellclf.report.deployments import Deployment
from cellclf.report.figures import Figure
from cellclf.report.prices import Assumptions

__all__ = ["Choice", "Contender", "Limits", "Spending"]


class Limits(Document):
    """What a model must keep to; None = no limit.

    min_sensitivity: of the positive label, by a threshold that is chosen on validation for each run; without a positive label, of every label.
    max_latency_ms: 95th percentile of one image. max_cost: of a million images, in the currency of the prices.
    """

    min_sensitivity: float | None = None
    positive: str | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_cost: float | None = None


class Contender(Document):
    """A model as it would be deployed. figure: balanced accuracy on the split that the choice is made by; test: the same on the test set.

    sensitivity, specificity: on the test set, of the positive label (averaged over seeds); without one, sensitivity is the worst label's.
    excluded: every limit it does not keep. pareto: whether no other is both better and quicker. against_winner: the paired test, winner − this one,
    on the test images; adjusted_p: its p-value after Holm's correction; both None where they were not tested on the same images. seeds_apart:
    whether all the winner's seeds are better there than all of its own, of which both have several.
    """

    model: str
    runs: tuple[str, ...]
    backbone: str
    deployment: Deployment | None
    figure: Figure
    test: Figure
    sensitivity: Estimate | None
    specificity: Estimate | None
    thresholds: tuple[float, ...]
    excluded: tuple[str, ...]
    pareto: bool = False
    against_winner: PairedTest | None = None
    adjusted_p: float | None = None
    seeds_apart: bool = False

    @property
    def distinguishable(self) -> bool:
        """Whether the winner is better than it on the test images, by more than chance of the images."""
        test = self.against_winner
        return test is not None and self.adjusted_p is not None and self.adjusted_p < LEVEL and test.difference > 0

    @property
    def better_on_test(self) -> bool:
        """Whether it is better there than the winner, by more than chance of the images."""
        test = self.against_winner
        return test is not None and self.adjusted_p is not None and self.adjusted_p < LEVEL and test.difference < 0

    @property
    def describe(self) -> str:
        """Model and deployment."""
        return f"{self.model}, {self.deployment.describe}" if self.deployment else self.model


class Spending(Document):
    """What the winner costs besides running it. training_s: of one run; training, training_per_million: its money, and spread over the lifetime's
    images, None where that machine has no price. kwh_per_million, co2_g_per_million: None where no energy was measured. break_even: of its network.
    """

    training_s: Spread
    training: float | None
    training_per_million: float | None
    kwh_per_million: float | None
    co2_g_per_million: float | None
    break_even: BreakEven | None


class Choice(Document):
    """Contenders that keep the limits, best first; then the excluded. `frugal` is the quickest that cannot be told from the winner.

    assumed: what cost rests on. spending: of the winner, None where nothing is kept.
    """

    by: Split
    limits: Limits
    assumed: Assumptions
    kept: tuple[Contender, ...]
    excluded: tuple[Contender, ...]
    frugal: str | None
    notes: tuple[str, ...]
    spending: Spending | None = None
