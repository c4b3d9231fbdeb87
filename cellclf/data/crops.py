"""CROPS: one row = one way to choose the part of an image that a network sees. An exported file names its crop and the resampling after it.

All arithmetic is in integers, so that every machine sees the same part. Imports Pillow, tables, the card and errors only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from cellclf.card import Card
from cellclf.errors import DecodeError, ModelFileError
from cellclf.tables import Table

__all__ = ["CROPS", "WHOLE", "Box", "Crop", "Shares", "View", "view_of"]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels of the upright image, as Pillow has them."""

Shares = tuple[float, float, float, float]
"""Left, top, right and bottom edge in shares of the upright image's width and height."""

WHOLE: Shares = (0.0, 0.0, 1.0, 1.0)

Integers = npt.NDArray[np.int64]

_GRID = 60
"""Places on an image's shorter side at which its stain is looked at: a white cell at the usual magnification spans about twenty."""
_NUCLEUS, _CELL = 5, 12
"""Half of the square whose stain is summed to find the nucleus, and of the one whose middle is taken, in places."""
_STAIN_SHARE = 60
"""Per cent of the way from the median to the strongest stain above which a place counts as nucleus."""
_STRONGEST = 200
"""The strongest stain is that of the two-hundredth part of all places with the most, less a few specks."""
_LEAST_STAIN = 25
"""Levels (of 255) by which blue must be above green in a nucleus, beyond the median. A grey image has 0; of the 12,444 blood-cell images 24 have 27
to 57, in which little or nothing of the white cell is left, and the others 61 and more."""
_LONGEST = 8
"""How many times as long as high a field may be: what the search takes is bounded by it."""


@dataclass(frozen=True)
class Crop:
    """name; resize: what exported files call this crop and the resampling after it; description; box: from an upright RGB or grey image to what is
    seen of it, raising DecodeError where there is nothing to see."""

    name: str
    resize: str
    description: str
    box: Callable[[Image.Image], Box]


def _whole(image: Image.Image) -> Box:
    return 0, 0, image.width, image.height


def _stained_cell(image: Image.Image, *, name: str, share: int) -> Box:
    """A square of `share` per cent of the shorter side around the nucleus.

    Romanowsky stains make it the place where blue is furthest above green; red cells and plasma are not.
    """
    if max(image.size) > _LONGEST * min(image.size):
        raise DecodeError(f"{image.width} × {image.height} is no field of a microscope (crop {name!r})")
    place = _nucleus(image)
    if place is None:
        raise DecodeError(f"no stained nucleus in it, and this network looks at the cell around one (crop {name!r})")
    side = max(1, share * min(image.size) // 100)
    left, top = (min(max(middle - side // 2, 0), length - side) for middle, length in zip(place, image.size, strict=True))
    return left, top, left + side, top + side


def _nucleus(image: Image.Image) -> tuple[int, int] | None:
    """Column and row, in pixels, of the middle of the largest stained nucleus; None where nothing is stained."""
    if image.mode != "RGB":
        return None
    columns, rows = (_GRID * length // min(image.size) for length in image.size)
    colours = np.asarray(image.resize((columns, rows), Image.Resampling.BOX)).astype(np.int64)
    stain = colours[..., 2] - colours[..., 1]
    ranked = np.sort(stain, axis=None)
    usual, strongest = int(ranked[ranked.size // 2]), int(ranked[-1 - ranked.size // _STRONGEST])
    if strongest - usual < _LEAST_STAIN:
        return None
    excess = np.maximum(100 * (stain - usual) - _STAIN_SHARE * (strongest - usual), 0)
    row, column = divmod(int(_sums_around(excess, _NUCLEUS).argmax()), columns)
    top, left = max(row - _CELL, 0), max(column - _CELL, 0)
    around = excess[top : row + _CELL + 1, left : column + _CELL + 1]
    return (
        _middle(around.sum(axis=0), first=left, places=columns, length=image.width),
        _middle(around.sum(axis=1), first=top, places=rows, length=image.height),
    )


def _middle(weights: Integers, *, first: int, places: int, length: int) -> int:
    """The weighted middle of places that begin with `first`, in pixels of an image in which so many places are `length` pixels."""
    total = int(weights.sum())
    doubled = 2 * int((weights * np.arange(first, first + len(weights))).sum()) + total  # a place's middle is half a place further
    return doubled * length // (2 * total * places)


def _sums_around(values: Integers, reach: int) -> Integers:
    """For each place the sum over the square of 2 × reach + 1 places a side around it, what lies outside counting 0."""
    rows, columns = values.shape
    total = np.zeros((rows + 1, columns + 1), dtype=np.int64)
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    row, column = np.arange(rows), np.arange(columns)
    top, bottom = np.maximum(row - reach, 0)[:, None], np.minimum(row + reach + 1, rows)[:, None]
    left, right = np.maximum(column - reach, 0), np.minimum(column + reach + 1, columns)
    sums: Integers = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return sums


def _around_the_nucleus(name: str, share: int, words: str) -> Crop:
    description = f"a square of {share} % of the shorter side around the largest stained nucleus ({words})"
    return Crop(name, f"cell-{share}-bilinear-antialias", description, partial(_stained_cell, name=name, share=share))


CROPS: Table[Crop] = Table(
    "crop",
    [
        Crop("none", "stretch-bilinear-antialias", "the whole image, stretched to the network's size", _whole),
        _around_the_nucleus("cell", 46, "a cell and its rim, in a field as large as those of blood-cells"),
        _around_the_nucleus("cell-wide", 62, "as cell, with its neighbours, or of a field photographed from nearer"),
    ],
)


@dataclass(frozen=True)
class View:
    """What a network sees of an image: the part that `crop` chooses, resampled to height_px × width_px by Pillow's antialiased bilinear filter."""

    height_px: int
    width_px: int
    crop: str = "none"

    @property
    def resize(self) -> str:
        """What exported files call it."""
        return CROPS[self.crop].resize

    def box(self, image: Image.Image) -> Box:
        """The part of an upright RGB or grey image that is seen; raises DecodeError where there is nothing to see."""
        return CROPS[self.crop].box(image)


def view_of(card: Card) -> View:
    """What an exported file's network sees; raises ModelFileError where this version does not know how its images are resized."""
    for crop in CROPS.values():
        if crop.resize == card.resize:
            return View(card.height_px, card.width_px, crop.name)
    raise ModelFileError(f"{card.name} wants images resized by {card.resize!r}, which this version cannot do; update cellclf")
