"""The split protocols: which group is trained on, validated on and tested on. Pure functions; the same on every machine and NumPy version.

official: the source's own test set; validation is cut from its training set by group. grouped: fractions or k folds of the
groups. random: fractions of the files, whatever they show (the studies' protocol); it leaks and is marked so.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from cellclf.data.manifest import Split
from cellclf.errors import DataError

__all__ = ["PROTOCOLS", "Fractions", "Protocol", "deal", "fold_sides", "merge_identical"]

Protocol = Literal["official", "grouped", "random"]
PROTOCOLS: tuple[Protocol, ...] = ("official", "grouped", "random")

Fractions = tuple[float, float, float]
"""Shares of train, validation and test."""


def deal(groups: Mapping[str, Counter[str]], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Give every group one side, so that each label is shared out in proportion to `shares`.

    groups: images a label in each group. shares: positive weight of each side. Groups come in an order drawn from the seed; each goes to the side
    that still lacks the largest part of its labels, ties drawn from the seed. A group is never divided. Returns side by group.
    """
    total: Counter[str] = Counter()
    for counts in groups.values():
        total.update(counts)
    whole = sum(shares.values())
    target = {side: {label: total[label] * share / whole for label in total} for side, share in shares.items()}
    given: dict[str, Counter[str]] = {side: Counter() for side in shares}
    sides = {}
    for group in sorted(groups, key=lambda name: _draw(seed, name)):
        counts = groups[group]
        lacks = {side: _lack(counts, given[side], target[side]) for side in shares}
        most = max(lacks.values())
        side = min((side for side in shares if lacks[side] > most - 1e-9), key=lambda side: _draw(seed, group, side))
        given[side].update(counts)
        sides[group] = side
    return sides


def fold_sides(fold: int, folds: int) -> dict[str, Split]:
    """Which side each of the folds '1' … is on when fold number `fold` is tested: the next one validates, the rest trains."""
    if folds < 3 or not 1 <= fold <= folds:
        raise DataError(f"fold {fold}/{folds} cannot be: give K/N with N at least 3 and K from 1 to N")
    sides: dict[str, Split] = {str(number): "train" for number in range(1, folds + 1)}
    sides[str(fold % folds + 1)] = "validation"
    sides[str(fold)] = "test"
    return sides


def merge_identical(groups: Sequence[str], contents: Sequence[str]) -> list[str]:
    """One key a file such that files of one group, or of identical content, have the same key; '' means group unknown.

    groups, contents: the group and the content hash of each file. The key is the smallest name that is joined.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    names = [f"group:{group}" if group else f"sha256:{content}" for group, content in zip(groups, contents, strict=True)]
    first_of_content: dict[str, str] = {}
    for name, content in zip(names, contents, strict=True):
        a, b = sorted((root(name), root(first_of_content.setdefault(content, name))))
        parent[b] = a
    members: defaultdict[str, list[str]] = defaultdict(list)
    for name in parent:
        members[root(name)].append(name)
    smallest = {key: min(names) for key, names in members.items()}
    return [smallest[root(name)] for name in names]


def _lack(counts: Counter[str], given: Counter[str], target: Mapping[str, float]) -> float:
    """The part of a side's target that is still missing, over the group's own labels; 1 = nothing given yet, below 0 = too much."""
    images = sum(counts.values())
    return sum(number * (1 - given[label] / target[label]) for label, number in counts.items()) / images


def _draw(seed: int, *names: str) -> bytes:
    """A number drawn from the seed and the names, the same everywhere."""
    return hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
