"""One image file → uint8 pixels. The only place that decodes: training, prediction and serving all call it. Imports crops and errors only.

What becomes of unusual files: EXIF rotation is applied; grey, palette and CMYK become RGB; transparency is laid over white;
16-bit grey is scaled from 0–65535 to 0–255, and turned round where the file says that 0 is white. Refused with a reason: empty, truncated or
foreign files, several frames in one file, more than MAX_PIXELS, floating-point pixels, and 16-bit files that use 15 bits or fewer (their window
is not known).
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Importing a plugin registers its format; Pillow itself would load all fifty for these two.
from PIL import (
    Image,
    ImageOps,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from cellclf.data.crops import Shares, View
from cellclf.errors import DecodeError

__all__ = [
    "BYTES_A_PIXEL",
    "DECODER_VERSION",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Pixels",
    "decode",
    "decode_file",
    "decode_seen",
    "decode_thumbnail",
    "is_image_name",
]

Pixels = npt.NDArray[np.uint8]

DECODER_VERSION = 2
"""Part of every cache key; raise it when the same file would decode to other pixels."""

MAX_PIXELS = 89_478_485
"""Largest width × height that is decoded (Pillow's own warning limit, 256 MiB of RGB)."""

BYTES_A_PIXEL = 28
"""The most memory that a pixel takes while it is decoded: four bytes in each of the two canvases of a transparent WebP, in the image, in the
image turned upright, and in what it is laid over, with, and becomes."""

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
_NO_WINDOW = "16-bit file whose values end at {}: its window is not known; convert it to 8 bits, or to the full 16-bit range"
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")  # MPO comes in as JPEG
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_FIFTEEN_BITS = 32767
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""A TIFF's tag and value that mean a negative. Pillow turns 8 bits round by itself, and leaves 16 as they are."""

# Pillow says so and goes on: damaged EXIF only costs the rotation, and a cut TIFF ends in a DecodeError.
warnings.filterwarnings("ignore", message="Corrupt EXIF data|Truncated File Read", category=UserWarning)


def is_image_name(path: Path) -> bool:
    """Whether the name ends like an image and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def decode_file(path: Path, view: View) -> Pixels:
    """Read and decode one file to uint8 [height, width, 3], RGB, as `view` says; raises DecodeError with the reason."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DecodeError("no such file") from error
    except ValueError as error:
        raise DecodeError("no such file: its name holds a NUL") from error
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror or error}") from error
    return decode(content, view)


def decode(content: bytes, view: View, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image's bytes to uint8 [height, width, 3], RGB, as `view` says; raises DecodeError with the reason.

    max_pixels: largest width × height that is decoded, at most MAX_PIXELS.
    """
    return decode_seen(content, view, max_pixels=max_pixels)[0]


def decode_seen(content: bytes, view: View, *, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, Shares]:
    """What `decode` gives, and which part of the upright image it is, in shares; raises DecodeError with the reason."""
    image = _upright_image(content, max_pixels=max_pixels)
    box = left, top, right, bottom = view.box(image)
    pixels = np.asarray(image.resize((view.width_px, view.height_px), Image.Resampling.BILINEAR, box=box).convert("RGB"))
    return pixels, (left / image.width, top / image.height, right / image.width, bottom / image.height)


def decode_thumbnail(content: bytes, *, longest_px: int) -> Pixels:
    """Decode an image's bytes to uint8 [height, width, 3], RGB, shrunk to its longest side and never enlarged; raises DecodeError.

    A JPEG is decoded at a fraction of its size, several times as fast as `decode`; its pixels are not those of `decode`.
    """
    image = _upright_image(content, at_least_px=longest_px)
    scale = min(1.0, longest_px / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX).convert("RGB"))


def _upright_image(content: bytes, *, at_least_px: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The upright RGB or grey image in a file's bytes; at_least_px: a JPEG may come smaller, with no longer side below this. Raises DecodeError."""
    if not content:
        raise DecodeError("empty file")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _refuse_unusual(image, min(max_pixels, MAX_PIXELS))
            sixteen_bits = any(";16" in str(tile) for tile in image.tile)
            white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
            if at_least_px is not None:
                image.draft("RGB", _in_proportion(image.size, at_least_px))
            image.load()
            return _opaque(_upright(image), sixteen_bits=sixteen_bits, white_is_zero=white_is_zero)
    except UnidentifiedImageError as error:
        raise DecodeError("not an image, or of a kind that is not read (JPEG, PNG, BMP, TIFF, WebP, GIF, PPM are)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError(f"more than {min(max_pixels, MAX_PIXELS):,} pixels") from error
    # What Pillow's decoders raise on damaged content, besides OSError.
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError, struct.error, zlib.error) as error:
        raise DecodeError(f"damaged image: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def _in_proportion(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Width and height of that longest side, rounded down."""
    return max(1, size[0] * longest_px // max(size)), max(1, size[1] * longest_px // max(size))


def _refuse_unusual(image: Image.Image, max_pixels: int) -> None:
    """Raise DecodeError by the header alone, before any pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise DecodeError(f"{width} × {height} is more than {max_pixels:,} pixels")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DecodeError(f"holds {frames} frames; give one image a file")
    if image.mode == "F":
        raise DecodeError("floating-point pixels; convert to 8 or 16 bits")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, where there is one that can be read."""
    if not image.getexif().get(0x0112):
        return image
    return ImageOps.exif_transpose(image)


def _opaque(image: Image.Image, *, sixteen_bits: bool, white_is_zero: bool) -> Image.Image:
    """RGB of 8 bits, or grey of 8 bits, which is resized at a third of the cost and to the same pixels.

    sixteen_bits: whether the file has 16 bits a channel, of which Pillow keeps the upper 8 where there is colour or alpha. white_is_zero: whether it
    is a negative.
    """
    if image.mode in _SIXTEEN_BIT_MODES:
        return _eight_bit(image, white_is_zero=white_is_zero)
    if sixteen_bits and max(high for _, high in _colour_extrema(image)) <= _FIFTEEN_BITS >> 8:
        raise DecodeError(_NO_WINDOW.format("15 bits or fewer"))
    if image.mode == "RGB" or (image.mode == "L" and not image.has_transparency_data):
        return image
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _colour_extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Lowest and highest value of each band but alpha."""
    bands = [band for band, name in zip(image.split(), image.getbands(), strict=True) if name not in "Aa"]
    values = [np.asarray(band) for band in bands]
    return [(int(band.min()), int(band.max())) for band in values]


def _eight_bit(image: Image.Image, *, white_is_zero: bool) -> Image.Image:
    """Scale 16-bit grey 0–65535 to 0–255, rounded; refuse values that fit in 15 bits, which would come out too dark, 12 bits nearly black."""
    values = np.asarray(image).astype(np.int32)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DecodeError(f"pixel values from {low} to {high} do not fit 16 bits")
    if high <= _FIFTEEN_BITS:
        raise DecodeError(_NO_WINDOW.format(high))
    scaled = (values + 128) // 257
    return Image.fromarray((255 - scaled if white_is_zero else scaled).astype(np.uint8))
