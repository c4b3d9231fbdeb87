"""TTAS: one row = one kind of test-time augmentation: the views of an image over which the network's answer is taken. Knows no framework.

Averaged are the values before the last dense layer, which is the same as averaging the scores before the softmax: a temperature and a shift of
labels mean the same with it and without.
"""

from dataclasses import dataclass

from cellclf.tables import Table

__all__ = ["TTAS", "Tta", "Turn"]


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a square down: rows and columns exchanged, then the rows reversed, then the columns."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @property
    def inverse(self) -> "Turn":
        """The way that undoes this one."""
        if not self.transposed:
            return self
        return Turn(transposed=True, rows_reversed=self.columns_reversed, columns_reversed=self.rows_reversed)


@dataclass(frozen=True)
class Tta:
    """name; description; views: the first is the image as it is."""

    name: str
    description: str
    views: tuple[Turn, ...]


_AS_IT_IS, _MIRRORED, _HALF = Turn(), Turn(columns_reversed=True), Turn(rows_reversed=True, columns_reversed=True)
_QUARTERS = (Turn(transposed=True, rows_reversed=True), Turn(transposed=True, columns_reversed=True))

TTAS: Table[Tta] = Table(
    "test-time augmentation",
    [
        Tta("none", "the image as it is", (_AS_IT_IS,)),
        Tta("mirror", "the image and its mirror image: twice the work", (_AS_IT_IS, _MIRRORED)),
        Tta("turns", "the image turned by quarters: four times the work", (_AS_IT_IS, *_QUARTERS, _HALF)),
        Tta(
            "turns-mirror",
            "the image turned by quarters, and the mirror images of these: eight times the work",
            tuple(Turn(transposed, rows, columns) for transposed in (False, True) for rows in (False, True) for columns in (False, True)),
        ),
    ],
)
