import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cellclf.data.crops import View
from cellclf.data.decoding import BYTES_A_PIXEL, MAX_PIXELS, Pixels, decode, decode_file, is_image_name
from cellclf.errors import DecodeError
from tests.data.making import encoded, picture

HEIGHT, WIDTH = 8, 12
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def whole(content: bytes) -> Pixels:
    return decode(content, View(HEIGHT, WIDTH))


def refused(content: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        whole(content)


def quarters() -> Image.Image:
    """32 wide, 16 high; red and green above blue and white, each of whole JPEG blocks."""
    image = Image.new("RGB", (32, 16), WHITE)
    image.paste(RED, (0, 0, 16, 8))
    image.paste(GREEN, (16, 0, 32, 8))
    image.paste(BLUE, (0, 8, 16, 16))
    return image


def corners(pixels: Pixels) -> list[tuple[int, ...]]:
    """The four corners, rounded to full or no light."""
    return [tuple(int(value) * 255 for value in pixels[y, x] > 127) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width_px: int, height_px: int, *, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey16(low: int, high: int) -> Image.Image:
    """16-bit grey, 12 × 8, from low to high."""
    return Image.fromarray(np.linspace(low, high, WIDTH * HEIGHT).round().astype(np.uint16).reshape(HEIGHT, WIDTH))


def tiff_grey(pixels: npt.NDArray[Any], *, photometric: int) -> bytes:
    """An uncompressed grey TIFF of one strip; photometric 0: zero is white."""
    height, width = pixels.shape
    tags = [
        (256, width),
        (257, height),
        (258, 8 * pixels.itemsize),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, height),
        (279, pixels.nbytes),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def eight_bit(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(image).astype(np.float64) / 257


# What is decoded


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_an_rgb_file_of_the_wanted_size_gives_its_own_pixels(kind: str) -> None:
    image = picture(width_px=WIDTH, height_px=HEIGHT)
    np.testing.assert_array_equal(whole(encoded(image, kind)), np.asarray(image))


def test_a_still_webp_gives_its_own_pixels() -> None:
    image = picture(width_px=WIDTH, height_px=HEIGHT)
    np.testing.assert_array_equal(whole(encoded(image, "WEBP", lossless=True)), np.asarray(image))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_gives_nearly_the_pixels_it_was_made_of(progressive: bool) -> None:
    assert corners(whole(encoded(quarters(), "JPEG", progressive=progressive))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(("height_px", "width_px"), [(1, 1), (7, 31), (64, 64)])
def test_the_result_has_the_size_that_was_asked_for(height_px: int, width_px: int) -> None:
    pixels = decode(encoded(quarters(), "PNG"), View(height_px, width_px))
    assert pixels.shape == (height_px, width_px, 3)
    assert pixels.dtype == np.uint8


def test_the_whole_image_is_stretched_and_nothing_is_cut_away() -> None:
    assert corners(decode(encoded(quarters(), "PNG"), View(16, 16))) == [RED, GREEN, BLUE, WHITE]


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encoded(Image.fromarray(stripes), "PNG"), View(4, 4))
    assert int(pixels.min()) >= 120
    assert int(pixels.max()) <= 135


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_black_and_white_become_three_equal_channels(mode: str) -> None:
    image = picture(width_px=WIDTH, height_px=HEIGHT).convert(mode)
    np.testing.assert_array_equal(whole(encoded(image, "PNG")), np.asarray(image.convert("L"))[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(("height_px", "width_px"), [(8, 12), (5, 31), (64, 3), (1, 1), (128, 128)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_grey_file_is_resized_to_the_pixels_that_its_rgb_copy_gives(kind: str, height_px: int, width_px: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    grey, rgb = (decode(encoded(Image.fromarray(noise).convert(mode), kind), View(height_px, width_px)) for mode in ("L", "RGB"))
    np.testing.assert_array_equal(grey, rgb)


def test_a_palette_becomes_its_colours() -> None:
    image = picture(width_px=WIDTH, height_px=HEIGHT).quantize(16)
    np.testing.assert_array_equal(whole(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_a_one_frame_gif_is_decoded() -> None:
    image = quarters().quantize(4)
    assert corners(whole(encoded(image, "GIF"))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("alpha", [0, 64, 255])
def test_transparency_is_laid_over_white(alpha: int) -> None:
    expected = [255, 255 - alpha, 255 - alpha]
    pixels = whole(encoded(Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, alpha)), "PNG"))
    np.testing.assert_allclose(pixels[4, 6].astype(int), expected, atol=1)


@pytest.mark.parametrize("alpha", [0, 64, 255])
def test_grey_with_transparency_is_laid_over_white(alpha: int) -> None:
    pixels = whole(encoded(Image.new("LA", (WIDTH, HEIGHT), (0, alpha)), "PNG"))
    np.testing.assert_allclose(pixels[4, 6].astype(int), [255 - alpha] * 3, atol=1)


@pytest.mark.parametrize(("kind", "transparency"), [("PNG", 0), ("PNG", bytes([0, 255, 255, 255])), ("GIF", 0)], ids=["png", "png alpha", "gif"])
def test_a_transparent_palette_entry_becomes_white(kind: str, transparency: Any) -> None:
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([*RED, *GREEN, *BLUE, *WHITE])
    image.paste(1, (0, 0, WIDTH, 1))
    pixels = whole(encoded(image, kind, transparency=transparency))
    assert pixels[0, 0].tolist() == list(GREEN)
    assert pixels[-1, 0].tolist() == list(WHITE)


def test_a_transparent_grey_level_becomes_white() -> None:
    pixels = whole(encoded(Image.new("L", (WIDTH, HEIGHT), 7), "PNG", transparency=7))
    assert pixels[0, 0].tolist() == list(WHITE)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    assert corners(whole(encoded(quarters().convert("CMYK"), kind))) == [RED, GREEN, BLUE, WHITE]


UPRIGHT_TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
def test_exif_orientation_is_applied_once(orientation: int, kind: str) -> None:
    turn = UPRIGHT_TO_STORED[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(decode(encoded(stored, kind, exif=exif), View(16, 32))) == [RED, GREEN, BLUE, WHITE]


def test_the_turns_of_the_test_above_are_those_of_exif() -> None:
    for orientation, turn in UPRIGHT_TO_STORED.items():
        stored = quarters() if turn is None else quarters().transpose(turn)
        stored.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(stored)), np.asarray(quarters()))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_exif_does_not_know_is_no_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(whole(encoded(quarters(), "JPEG", exif=exif))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", [3, 6])
def test_16_bit_grey_is_turned_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = grey16(0, 65535)
    turned = image.transpose(Image.Transpose.ROTATE_180 if orientation == 3 else Image.Transpose.ROTATE_270)
    pixels = decode(encoded(image, "PNG", exif=exif), View(turned.height, turned.width))
    np.testing.assert_allclose(pixels[..., 0], eight_bit(turned), atol=0.5)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_from_65535_to_255(kind: str) -> None:
    image = grey16(0, 65535)
    pixels = whole(encoded(image, kind))
    np.testing.assert_allclose(pixels[..., 0], eight_bit(image), atol=0.5)
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert (pixels == pixels[..., :1]).all()


def test_a_pgm_file_that_says_it_ends_at_4095_is_scaled_by_that() -> None:
    content = f"P5\n{WIDTH} {HEIGHT}\n4095\n".encode() + np.full(WIDTH * HEIGHT, 4095, ">u2").tobytes()
    assert int(whole(content).min()) == 255


def test_an_mpo_file_of_a_camera_gives_its_first_picture() -> None:
    content = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 16))])
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert corners(whole(content)) == [RED, GREEN, BLUE, WHITE]


# What is refused


def test_an_empty_file_is_refused_as_such() -> None:
    refused(b"", "^empty file$")


@pytest.mark.parametrize(
    "content",
    [b"just a text, saved as picture.png\n", b"<html><body>404</body></html>", b"\x00" * 1000, b"%PDF-1.7\n", b"P"],
    ids=["text", "web page", "zeros", "pdf", "one byte"],
)
def test_a_file_that_is_no_image_is_refused_as_such(content: bytes) -> None:
    refused(content, "^not an image, or of a kind that is not read")


def test_an_image_of_a_kind_that_is_not_read_is_refused_as_such() -> None:
    refused(encoded(quarters(), "TGA"), "^not an image, or of a kind that is not read")
    refused(encoded(quarters(), "ICO"), "^not an image, or of a kind that is not read")


@pytest.mark.parametrize("highest", [4095, 8191, 16383, 32767], ids=["12 bits", "13 bits", "14 bits", "15 bits"])
def test_16_bit_files_of_fewer_bits_are_refused_because_their_window_is_not_known(highest: int) -> None:
    refused(encoded(grey16(0, highest), "PNG"), f"16-bit file whose values end at {highest}: its window is not known")
    refused(encoded(grey16(0, highest), "TIFF"), "its window is not known")


def test_one_value_past_15_bits_is_16_bits() -> None:
    assert whole(encoded(grey16(0, 32768), "PNG")).max() == 128


@pytest.mark.parametrize(("bits", "values"), [(8, (0, 230)), (16, (0, 60000))], ids=["8 bits", "16 bits"])
def test_a_tiff_in_which_zero_is_white_is_turned_round(bits: int, values: tuple[int, int]) -> None:
    """Photometric interpretation 0, as negatives of X-rays have it, against 1 of the same numbers."""
    pixels = np.full((HEIGHT, WIDTH), values[1], np.uint8 if bits == 8 else np.uint16)
    pixels[0, 0] = values[0]
    positive, negative = (whole(tiff_grey(pixels, photometric=photometric)) for photometric in (1, 0))
    assert positive[0, 0, 0] == 0 and negative[0, 0, 0] == 255
    np.testing.assert_array_equal(negative, 255 - positive)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "grey and alpha", "RGB and alpha"])
def test_16_bit_colour_of_12_bits_is_refused_like_16_bit_grey(colour: int, channels: int) -> None:
    values = np.full((HEIGHT, WIDTH, channels), 4000, ">u2")
    if colour in (4, 6):
        values[..., -1] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    refused(png(WIDTH, HEIGHT, bits=16, colour=colour, rows=rows), "window is not known")


@pytest.mark.parametrize("value", [-5, 70000])
def test_values_that_do_not_fit_16_bits_are_refused(value: int) -> None:
    refused(encoded(Image.fromarray(np.full((HEIGHT, WIDTH), value, np.int32)), "TIFF"), "do not fit 16 bits")


def test_floating_point_pixels_are_refused() -> None:
    refused(encoded(Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32)), "TIFF"), "^floating-point pixels")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_in_one_file_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in (RED, GREEN, BLUE)]
    refused(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "^holds 3 frames; give one image a file$")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused(progressive: bool) -> None:
    content = encoded(picture(width_px=24, height_px=24), "JPEG", progressive=progressive)
    for length in range(1, len(content)):
        with pytest.raises(DecodeError):
            whole(content[:length])


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_of_another_kind_cut_anywhere_is_refused(kind: str) -> None:
    content = encoded(picture(width_px=WIDTH, height_px=HEIGHT), kind)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        for length in range(1, len(content)):
            with pytest.raises(DecodeError):
                whole(content[:length])


def test_a_png_that_lacks_pixels_is_refused_and_never_filled_in() -> None:
    image = picture(width_px=24, height_px=24)
    content, expected = encoded(image, "PNG"), np.asarray(image)
    for length in range(1, len(content)):
        try:
            pixels = decode(content[:length], View(24, 24))
        except DecodeError:
            continue
        np.testing.assert_array_equal(pixels, expected)
        assert len(content) - length <= 20, "only the end mark and checksums may be missing"


@pytest.mark.parametrize(("width_px", "height_px"), [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1), (9460, 9460)])
def test_a_header_of_too_many_pixels_is_refused(width_px: int, height_px: int) -> None:
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        refused(png(width_px, height_px, bits=8, colour=2, rows=b"\0" * 100), "more than 89,478,485 pixels")


def test_too_many_pixels_are_refused_where_warnings_are_errors() -> None:
    refused(png(9460, 9460, bits=8, colour=2, rows=b""), "more than 89,478,485 pixels")


def test_a_header_of_too_many_pixels_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(50_000, 50_000, bits=8, colour=2, rows=b"\0" * 10_000))
    code = f"""
import resource, time
from pathlib import Path
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.errors import DecodeError
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    decode_file(Path({str(tmp_path / "bomb.png")!r}), View(8, 8))
except DecodeError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, time.process_time() - started < 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "more than 89,478,485 pixels\nTrue True\n"


_TAKEN = r"""
import re, sys
from pathlib import Path
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file

def highest():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

small, large = (Path(name) for name in sys.argv[1:])
decode_file(small, View(8, 8))
before = highest()
decode_file(large, View(8, 8))
print(highest() - before)
"""
"""What decoding takes more for a large image than for a small one of its kind, in bytes."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the most memory a process had is told by /proc")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_an_image_takes_no_more_memory_than_is_said_whatever_its_kind(kind: str, tmp_path: Path) -> None:
    side, turned = 2000, Image.Exif()
    turned[0x0112] = 6
    layer = Image.linear_gradient("L").resize((side, side)).convert("RGB" if kind == "JPEG" else "RGBA")
    if layer.mode == "RGBA":
        layer.putalpha(Image.linear_gradient("L").resize((side, side)))
    layer.save(tmp_path / "large", kind, **({} if kind == "GIF" else {"exif": turned}))
    layer.resize((20, 20)).save(tmp_path / "small", kind, **({} if kind == "GIF" else {"exif": turned}))
    done = subprocess.run([sys.executable, "-c", _TAKEN, tmp_path / "small", tmp_path / "large"], capture_output=True, text=True, check=True)
    taken = int(done.stdout)
    pixels = side * side
    assert 2 * pixels < taken < BYTES_A_PIXEL * pixels + (8 << 20)


def test_a_reason_is_one_line() -> None:
    for content in (b"", b"text", encoded(quarters(), "PNG")[:60], encoded(quarters(), "JPEG")[:-9]):
        with pytest.raises(DecodeError) as caught:
            whole(content)
        assert "\n" not in str(caught.value)


# Files and names


def test_a_file_and_its_bytes_give_the_same_pixels(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM"):
        content = encoded(picture(kind), kind)
        path = tmp_path / "picture.of-any-name"
        path.write_bytes(content)
        np.testing.assert_array_equal(decode_file(path, View(5, 9)), decode(content, View(5, 9)))


def test_a_missing_file_and_a_folder_are_decode_errors(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"^no such file$"):
        decode_file(tmp_path / "gone.png", View(4, 4))
    with pytest.raises(DecodeError, match=r"^cannot be read: Is a directory$"):
        decode_file(tmp_path, View(4, 4))


def test_reading_a_file_leaves_it_as_it_was(tmp_path: Path) -> None:
    content = encoded(quarters(), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    decode_file(tmp_path / "a.jpg", View(4, 4))
    assert (tmp_path / "a.jpg").read_bytes() == content


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.JpEg", "a.b.tif", "a.webp", "ä b.gif"])
def test_names_of_images_are_told_by_their_suffix_in_any_case(name: str) -> None:
    assert is_image_name(Path("folder") / name)


@pytest.mark.parametrize("name", ["a.txt", "png", ".png", "._a.jpg", ".hidden.png", "a.png.part", "a.npy", "Thumbs.db", ".DS_Store"])
def test_hidden_files_and_other_suffixes_are_no_images(name: str) -> None:
    assert not is_image_name(Path("folder") / name)


# Laws

SOUND = {
    "jpeg": encoded(picture(width_px=16, height_px=16), "JPEG"),
    "png": encoded(picture(width_px=16, height_px=16), "PNG"),
    "palette": encoded(picture().quantize(8), "PNG", transparency=1),
    "grey16": encoded(grey16(0, 65535), "PNG"),
    "tiff": encoded(picture(), "TIFF"),
    "gif": encoded(picture().quantize(8), "GIF"),
    "webp": encoded(picture(), "WEBP"),
    "bmp": encoded(picture(), "BMP"),
}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound image with bytes replaced, cut out, put in, or its end lost."""
    content = bytearray(SOUND[draw(st.sampled_from(sorted(SOUND)))])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 2, 8, 64, len(content)]))
        content[start : start + length] = draw(st.binary(max_size=8))
    return bytes(content)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=damaged(), height_px=st.integers(1, 9), width_px=st.integers(1, 9))
def test_a_damaged_image_gives_pixels_of_the_right_shape_or_a_decode_error_and_nothing_else(content: bytes, height_px: int, width_px: int) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        try:
            pixels = decode(content, View(height_px, width_px))
        except DecodeError as error:
            assert str(error)
        else:
            assert pixels.shape == (height_px, width_px, 3)
            assert pixels.dtype == np.uint8


@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_give_a_decode_error(content: bytes) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning), pytest.raises(DecodeError):
        whole(content)


@given(colour=st.tuples(*[st.integers(0, 255)] * 3), width_px=st.integers(1, 40), height_px=st.integers(1, 40))
def test_one_colour_stays_that_colour_at_any_size(colour: tuple[int, int, int], width_px: int, height_px: int) -> None:
    pixels = decode(encoded(Image.new("RGB", (width_px, height_px), colour), "PNG"), View(6, 5))
    assert (pixels == np.array(colour)).all()


@given(values=st.lists(st.integers(0, 65535), min_size=1, max_size=30).filter(lambda values: max(values) > 32767))
def test_16_bit_values_are_rounded_to_the_nearest_of_256(values: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.uint16))
    pixels = decode(encoded(image, "PNG"), View(1, len(values)))
    assert pixels[0, :, 0].tolist() == [round(value / 257) for value in values]


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_cut_tiff_is_refused_without_a_warning(compression: str | None) -> None:
    content = encoded(picture(), "TIFF", compression=compression)
    with pytest.raises(DecodeError):
        whole(content[:-6])


def test_a_jpeg_with_a_damaged_exif_block_is_decoded_without_a_warning() -> None:
    five_entries_of_which_none_is_there = b"Exif\0\0MM\0*\0\0\0\x08\0\x05"
    assert corners(whole(encoded(quarters(), "JPEG", exif=five_entries_of_which_none_is_there))) == [RED, GREEN, BLUE, WHITE]
