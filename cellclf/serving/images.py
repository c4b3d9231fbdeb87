"""An image as it came → pixels, or the reason why not; what a hostile file may cost is bounded before it is decoded. Imports the decoder only."""

import warnings

import numpy as np

from cellclf.data.crops import WHOLE, Shares, View
from cellclf.data.decoding import Pixels, decode_seen
from cellclf.errors import DecodeError
from cellclf.serving.work import Image

__all__ = ["MAX_JPEG_SCANS", "decoded", "decoded_seen"]

# What Pillow remarks on damaged files is no line of a service's log: they end in a reason or in pixels.
warnings.filterwarnings("ignore", module="PIL")

MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten; each costs a pass over all pixels, so that a small file of thousands would take minutes."""

_JPEG, _START_OF_SCAN = b"\xff\xd8", b"\xff\xda"  # ITU-T T.81, table B.1


def decoded(image: Image, *, view: View, max_pixels: int) -> Pixels | str:
    """uint8 [height, width, 3] as `view` says, or the reason why the image cannot be used."""
    found = decoded_seen(image, view=view, max_pixels=max_pixels)
    return found if isinstance(found, str) else found[0]


def decoded_seen(image: Image, *, view: View, max_pixels: int) -> tuple[Pixels, Shares] | str:
    """What `decoded` gives, and which part of the upright image it is, in shares; pixels are all that is known of the image they came from."""
    if isinstance(image, np.ndarray):
        return image, WHOLE
    content = bytes(image)
    if content.startswith(_JPEG) and content.count(_START_OF_SCAN) > MAX_JPEG_SCANS:
        return f"a JPEG of more than {MAX_JPEG_SCANS} scans"
    try:
        return decode_seen(content, view, max_pixels=max_pixels)
    except DecodeError as error:
        return str(error)
    except MemoryError:
        return "takes more memory to decode than there is"
