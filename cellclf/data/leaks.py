"""What of a split was trained on, and so makes its figures too good. A pure function of the manifest."""

from cellclf.data.manifest import SPLITS, Leak, Manifest, Split
from cellclf.data.splits import Protocol

__all__ = ["IGNORES_GROUPS", "find_leaks"]

IGNORES_GROUPS = "the random protocol ignores groups, so images of one patient or cell are on both sides"


def find_leaks(manifest: Manifest, protocol: Protocol) -> tuple[Leak, ...]:
    """Why validation or test figures are too good, as far as the manifest can tell."""
    reasons: dict[Split, str] = {}
    sides = {split: {entry.group for entry in manifest.split(split) if entry.group} for split in SPLITS}
    contents = {split: {entry.sha256 for entry in manifest.split(split)} for split in SPLITS}
    trained_on: dict[Split, tuple[Split, ...]] = {"validation": ("train",), "test": ("train", "validation")}
    for split, others in trained_on.items():
        shared = set().union(*(sides[split] & sides[other] for other in others))
        copies = set().union(*(contents[split] & contents[other] for other in others))
        if protocol == "random":
            reasons[split] = IGNORES_GROUPS
        elif shared:
            reasons[split] = f"{len(shared)} groups are also in {' or '.join(others)}, for example {min(shared)}"
        elif copies:
            reasons[split] = f"{len(copies)} images are also in {' or '.join(others)}, byte for byte"
    return tuple(Leak(split=split, reason=reason) for split, reason in reasons.items())
