from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cellclf.data.audit.families import find_families
from cellclf.data.audit.overlay import Overlay, lay_on, scaled_map
from cellclf.errors import DecodeError
from tests.data.audit.making import augmented, field, put_images

SAME = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def registered(folder: Path, copy: Image.Image) -> Overlay:
    """A copy of field 0 laid on it by the map that the audit itself finds."""
    paths = put_images(folder, [field(0), copy])
    (found,) = find_families({str(number): path for number, path in enumerate(paths)}).copies
    return lay_on(paths[0].read_bytes(), paths[1].read_bytes(), found.map)


def difference(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> float:
    """Mean difference of grey values where both show something."""
    return float(np.abs(one.astype(float) - other).mean(axis=2)[where].mean())


def test_a_map_between_thumbnails_becomes_one_between_pictures_by_hand() -> None:
    """Pixel 3 of a thumbnail is x = 3.5; shifted by 2 pixels it is 5.5. On pictures four times as large: 14 → 22, a shift by 8."""
    assert scaled_map(((1, 0, 2), (0, 1, 0)), (4, 4), (4, 4)) == ((1, 0, 8), (0, 1, 0))
    # Mirrored in a thumbnail 80 wide, pixel i is pixel 79 − i; on pictures twice and three times as large x is (160 − x) · 3 / 2.
    assert scaled_map(((-1, 0, 79), (0, 1, 0)), (2, 2), (3, 3)) == ((-1.5, 0, 240), (0, 1.5, 0))


@pytest.mark.parametrize(
    "made", [{"turn_deg": 33.0}, {"turn_deg": 200.0, "mirror": True}, {"shift": (9.0, -6.0), "shear": 0.08}, {"turn_deg": 12.0, "brightness": 0.8}]
)
def test_a_copy_that_was_turned_mirrored_shifted_or_sheared_lies_on_its_original(tmp_path: Path, made: dict[str, float]) -> None:
    laid = registered(tmp_path, augmented(field(0), **made))  # type: ignore[arg-type]  # keyword arguments of one call
    assert laid.laid.shape == laid.squares.shape == laid.first.shape
    shown = (np.abs(laid.laid.astype(int) - 128).max(axis=2) > 2) & (laid.laid.max(axis=2) > 40)
    assert shown.mean() > 0.3
    unlaid = difference(laid.first, laid.second, shown)
    assert difference(laid.first, laid.squares, shown) < 0.35 * unlaid
    assert (laid.squares != laid.first).any(axis=2).mean() > 0.1, "some squares are the copy's"


def test_squares_are_the_first_and_the_second_in_turn_and_what_the_second_does_not_show_is_the_firsts() -> None:
    from io import BytesIO

    def png(left: int, right: int) -> bytes:
        stream = BytesIO()
        pixels = np.full((80, 80, 3), left, np.uint8)
        pixels[:, 40:] = right
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    one, other = png(100, 140), png(140, 100)
    laid = lay_on(one, other, SAME)
    assert (laid.first[0, 0, 0], laid.squares[0, 0, 0], laid.squares[0, 10, 0], laid.squares[10, 0, 0]) == (100, 100, 140, 140)
    beside = lay_on(one, other, ((1.0, 0.0, 40.0), (0.0, 1.0, 0.0)))
    assert (beside.laid[0, 0, 0], beside.laid[0, 60, 0]) == (100, 128)
    assert (beside.squares[:, 40:] == beside.first[:, 40:]).all()


def test_a_file_that_cannot_be_decoded_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        lay_on(b"no image", b"no image", SAME)
