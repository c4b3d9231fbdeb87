"""The audit's files: groups.csv, audit.json and one self-contained page with the pairs as pictures. Needs Jinja2, imported where it is used."""

import base64
import importlib.util
import io
from pathlib import Path

from PIL import Image

from cellclf.data.audit.findings import Audit
from cellclf.data.audit.inspect import Audited
from cellclf.data.decoding import decode_thumbnail
from cellclf.errors import DecodeError, MissingExtraError
from cellclf.storage import new_file, write_csv

__all__ = ["render", "write_audit"]

_PICTURE_PX = 220


def write_audit(audited: Audited, folder: Path) -> Path:
    """Write the three files and return the page; groups.csv has the columns path (absolute), label, group and, where the source has one, split."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtraError("the audit's page", "train")
    found = audited.scan
    divided = all(file.split for file in found.files)
    known = [file for file in found.files if file.path in audited.group_of]
    write_csv(
        folder / "groups.csv",
        ["path", "label", "group", *(["split"] if divided else [])],
        ([str((found.root / file.path).absolute()), file.label, audited.group_of[file.path], *([file.split] if divided else [])] for file in known),
    )
    audited.audit.write(folder / "audit.json")
    pictures = {path: picture for pair in audited.audit.pairs for path in (pair.first, pair.second) if (picture := _picture(found.root / path))}
    with new_file(folder / "index.html") as temporary:
        temporary.write_text(render(audited.audit, pictures), encoding="utf-8")
    return folder / "index.html"


def render(audit: Audit, pictures: dict[str, str]) -> str:
    """The page; pictures: data URIs by path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cellclf.data.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("audit.html.j2").render(audit=audit, pictures=pictures)


def _picture(path: Path) -> str | None:
    """A file's thumbnail as a data URI; None where it cannot be decoded."""
    try:
        pixels = decode_thumbnail(path.read_bytes(), longest_px=_PICTURE_PX)
    except (DecodeError, OSError):
        return None
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
