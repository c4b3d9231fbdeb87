import base64
import hashlib
import io
from pathlib import Path

from PIL import Image

from cellclf.report.mistakes import thumbnail


def picture(path: Path) -> str:
    """A wide picture; its content hash."""
    Image.new("RGB", (600, 300), (200, 30, 90)).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_thumbnail_is_a_small_jpeg_of_the_image(tmp_path: Path) -> None:
    sha256 = picture(tmp_path / "a.png")
    kind, _, content = thumbnail(tmp_path / "a.png", sha256).partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (144, 72)
        pixel = image.getpixel((70, 30))
        assert isinstance(pixel, tuple)
        assert all(abs(a - b) < 6 for a, b in zip(pixel, (200, 30, 90), strict=True))


def test_an_image_that_is_gone_changed_or_broken_has_no_thumbnail(tmp_path: Path) -> None:
    sha256 = picture(tmp_path / "a.png")
    assert thumbnail(tmp_path / "gone.png", sha256) == ""
    assert thumbnail(tmp_path / "a.png", "0" * 64) == ""
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert thumbnail(tmp_path / "broken.png", hashlib.sha256(b"no image").hexdigest()) == ""
