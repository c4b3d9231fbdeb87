"""The audit's files: groups.csv, audit.json and one self-contained page with the pairs as pictures. Needs Jinja2, imported where it is used."""

import base64
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from cellclf.data.audit.findings import Audit, PairShown
from cellclf.data.audit.inspect import Audited
from cellclf.data.audit.overlay import lay_on
from cellclf.data.decoding import Pixels
from cellclf.errors import DecodeError, MissingExtraError
from cellclf.storage import new_file, write_csv

__all__ = ["render", "write_audit"]

_SAME_PLACE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


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
    pictures = [_pictures(found.root, pair) for pair in audited.audit.pairs]
    with new_file(folder / "index.html") as temporary:
        temporary.write_text(render(audited.audit, pictures), encoding="utf-8")
    return folder / "index.html"


def render(audit: Audit, pictures: Sequence[Mapping[str, str]]) -> str:
    """The page; pictures: of each of the audit's pairs data URIs by what they show."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cellclf.data.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("audit.html.j2").render(audit=audit, pairs=list(zip(audit.pairs, pictures, strict=True)))


def _pictures(root: Path, pair: PairShown) -> dict[str, str]:
    """Both files as they are and, where their map is known, one on the other; nothing where one cannot be decoded any more."""
    try:
        first, second = ((root / path).read_bytes() for path in (pair.first, pair.second))
        laid = lay_on(first, second, pair.map or _SAME_PLACE)
    except (DecodeError, OSError):
        return {}
    pictures = {"first": laid.first, "second": laid.second}
    if pair.map is not None:
        pictures |= {"the second laid on the first": laid.laid, "both, in 8 × 8 squares": laid.squares}
    return {shown: _jpeg(pixels) for shown, pixels in pictures.items()}


def _jpeg(pixels: Pixels) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
