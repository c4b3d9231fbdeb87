"""Which of the images that show one field are copies of one photograph: their frames coincide, and so does their finest detail. NumPy only."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = ["LOW_DETAIL", "MOST_FRAME_DIFFERENCE", "Evidence", "looks_mixed", "photographs"]

Pair = tuple[int, int]

MOST_FRAME_DIFFERENCE = 0.05
"""Share of the canvas that only one of two registered images shows, up to which their frames can be one: it is the error of registration."""

LOW_DETAIL = 0.06
"""How far below the upper quartile of its group the correlation of detail must be to speak of another photograph: another focus, other noise."""

_FEWEST_SIGNS = 2
_SHARE_OF_SIGNS = 0.01
_SMALLEST_PART = 3
_DETAIL_SCALE = 0.04
_FRAME_NOISE = 0.025
_FRAME_SCALE = 0.01
_MOST_AGAINST = -3.0
_MOST_MOVES = 20


@dataclass(frozen=True)
class Evidence:
    """What two registered images say.

    frame_difference: the share of the canvas that only one shows. detail: the correlation of finest structure; None where one has lost its own.
    """

    frame_difference: float
    detail: float | None

    def against(self, usual_detail: float) -> bool:
        """Whether it speaks for two photographs, where pairs of the group usually correlate by usual_detail."""
        return self.frame_difference > MOST_FRAME_DIFFERENCE or (self.detail is not None and self.detail < usual_detail - LOW_DETAIL)

    def weight(self, usual_detail: float) -> float:
        """1 for a usual pair of one photograph; less for less detail or frames that differ, down to as much as three such pairs against it.

        Without detail frames alone may speak, and only against it.
        """
        frames = max(0.0, self.frame_difference - _FRAME_NOISE) / _FRAME_SCALE
        alike = 0.0 if self.detail is None else 1 + (self.detail - usual_detail) / _DETAIL_SCALE
        return max(_MOST_AGAINST, alike - frames)


def looks_mixed(evidence: Sequence[Evidence]) -> bool:
    """Whether pairs of one group speak for more than one photograph, so that the group is worth a closer look."""
    usual = _usual(evidence)
    frames = sum(found.frame_difference > MOST_FRAME_DIFFERENCE for found in evidence)
    signs = sum(found.against(usual) for found in evidence)
    return frames >= _FEWEST_SIGNS or signs >= max(_FEWEST_SIGNS, _SHARE_OF_SIGNS * len(evidence))


def photographs(members: Sequence[int], evidence: Mapping[Pair, Evidence]) -> dict[int, int]:
    """The smallest member of the photograph that each member is a copy of; all are of one where no second part has three members or more.

    Correlation clustering: greedy additive contraction (Keuper et al. 2015), then each member goes to the part it agrees with best on average,
    until none moves.
    """
    usual = _usual(list(evidence.values()))
    weight: dict[int, dict[int, float]] = {member: {} for member in members}
    for (a, b), found in evidence.items():
        weight[a][b] = weight[b][a] = found.weight(usual)
    part_of = _settled(_contracted(weight), weight)
    first_of: dict[int, int] = {}
    for member in sorted(part_of):
        first_of.setdefault(part_of[member], member)
    return {member: first_of[part] for member, part in part_of.items()}


def _contracted(weight: Mapping[int, Mapping[int, float]]) -> dict[int, int]:
    """Join the two parts with the most evidence for one photograph, as long as there is more for it than against it."""
    between = {member: defaultdict(float, near) for member, near in weight.items()}
    part_of = {member: member for member in between}
    while True:
        joined = max(
            ((value, -min(a, b), -max(a, b)) for a, near in between.items() for b, value in near.items() if a < b and value > 0), default=None
        )
        if joined is None:
            return part_of
        kept, gone = -joined[1], -joined[2]
        for other, value in between.pop(gone).items():
            del between[other][gone]
            if other != kept:
                between[kept][other] += value
                between[other][kept] += value
        part_of = {member: kept if part == gone else part for member, part in part_of.items()}


def _settled(part_of: dict[int, int], weight: Mapping[int, Mapping[int, float]]) -> dict[int, int]:
    """Each member in the large part that it agrees with best on average; a member alone or of a pair is a bad registration, no photograph."""
    large = sorted(part for part, size in Counter(part_of.values()).items() if size >= _SMALLEST_PART)
    if len(large) < 2:
        return dict.fromkeys(part_of, 0)
    for _ in range(_MOST_MOVES):
        before = dict(part_of)
        for member, near in sorted(weight.items()):
            told: dict[int, list[float]] = {part: [] for part in large}
            for other, value in near.items():
                if part_of[other] in told:
                    told[part_of[other]].append(value)
            means = {part: fmean(values) for part, values in told.items() if values}
            if means:
                part_of[member] = max(means, key=lambda part: (means[part], -part))
        if part_of == before:
            break
    return part_of


def _usual(evidence: Sequence[Evidence]) -> float:
    """The upper quartile of detail: in a group of two photographs most pairs of likely images are of one of them."""
    told = sorted(found.detail for found in evidence if found.detail is not None)
    return told[len(told) * 3 // 4] if told else 1.0
