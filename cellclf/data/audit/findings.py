"""What an audit found, as one stored document. Inert data."""

from typing import Literal

from cellclf.data.request import BadImage
from cellclf.documents import Document

__all__ = ["Audit", "Crossing", "Duplicates", "LabelConflict", "PairShown", "Shortcut"]

CrossingKind = Literal["byte-identical files", "copies of one field", "group"]


class Duplicates(Document):
    """Files whose bytes are identical."""

    sha256: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]


class LabelConflict(Document):
    """One thing under two labels. kind: byte-identical, or copies of one original; images: files by label; examples: a path of each label."""

    kind: Literal["byte-identical files", "copies of one original"]
    images: dict[str, int]
    examples: tuple[str, ...]


class Crossing(Document):
    """One thing on two sides of the source's own split. images: files by split; examples: a path of each split."""

    kind: CrossingKind
    name: str
    images: dict[str, int]
    examples: tuple[str, ...]


class PairShown(Document):
    """A pair of files and how the second can be made of the first, with the correlation of their fine structure under that map.

    map: affine, 2 × 3, the first's thumbnail pixels → the second's.
    """

    first: str
    second: str
    why: str
    transformation: str
    correlation: float | None = None
    map: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None


class Shortcut(Document):
    """How well something that is not the content predicts the label: balanced accuracy, cross-validated on whole groups, with its 95 % interval over
    the folds; chance: what guessing gives. suspicious: the interval lies above chance by more than a tenth.
    """

    feature: str
    balanced_accuracy: float
    low: float
    high: float
    chance: float
    images: int
    suspicious: bool


class Audit(Document):
    """audit.json. counts: images by split ('all' where the source has none) and label. families: copies of one original; largest_family: its files.

    copies: files that have at least one near duplicate or augmented copy. unbalanced: largest label's images over the smallest's.
    """

    format: Literal[1] = 1
    name: str
    files: int
    counts: dict[str, dict[str, int]]
    unbalanced: float
    broken: tuple[BadImage, ...]
    duplicates: tuple[Duplicates, ...]
    near_duplicates: int
    augmented_pairs: int
    copies: int
    families: int
    largest_family: int
    groups_given: int
    label_conflicts: tuple[LabelConflict, ...]
    crossings: tuple[Crossing, ...]
    shortcuts: tuple[Shortcut, ...]
    pairs: tuple[PairShown, ...]
    seconds: float

    @property
    def leaks(self) -> tuple[str, ...]:
        """Each way in which the source's own split leaks, in words."""
        found = []
        for kind in dict.fromkeys(crossing.kind for crossing in self.crossings):
            of_kind = [crossing for crossing in self.crossings if crossing.kind == kind]
            noun = {"group": "groups (patients, slides)", "copies of one field": "families of copies"}.get(kind, "sets of byte-identical files")
            found.append(f"{len(of_kind)} {noun} are on both sides of the split, as {' and '.join(of_kind[0].examples)}")
        return tuple(found)
