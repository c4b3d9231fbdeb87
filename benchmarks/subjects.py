"""What is measured: exported files where they are, else networks of the right shape with random weights, made once per machine into the cache.

Files: exported/*.onnx, or those of the folder in CELLCLF_BENCH_MODELS. Loads no framework; a skeleton is made in a process of its own.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from cellclf import artifact
from cellclf.backbones import BACKBONES
from cellclf.card import Card, read_model_file
from cellclf.environment import installed_versions
from cellclf.errors import CellclfError
from cellclf.storage import cache_folder
from cellclf.studies.measurements import Made
from cellclf.studies.table import STUDIES
from cellclf.training import network

__all__ = ["STUDY_BACKBONES", "Subject", "exported_subjects", "skeleton", "subjects"]

ROOT = Path(__file__).resolve().parent.parent

STUDY_BACKBONES = tuple(name for name in BACKBONES if any(row.backbone == name for study in STUDIES.values() for row in study.variations))
"""The backbones of the published studies, in the table's order."""


@dataclass(frozen=True)
class Subject:
    """A network to measure. files: by precision; empty for a skeleton that is not made yet. says: how it was made, for the record."""

    name: str
    backbone: str
    image_size_px: int
    made: Made
    says: str
    files: dict[str, Path] = field(default_factory=dict, hash=False)
    card: Card | None = field(default=None, hash=False)

    def __str__(self) -> str:
        return self.name

    def ready(self) -> "Subject":
        """The subject with its files, made now where they are not there yet; takes seconds to minutes. Raises CalledProcessError."""
        if self.files:
            return self
        folder = _skeleton_folder(self.backbone)
        if not folder.is_dir():
            subprocess.run([sys.executable, "-m", "benchmarks.skeleton", self.backbone, str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            _remove_older(folder)
        files = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
        return Subject(self.name, self.backbone, self.image_size_px, self.made, self.says, files, read_model_file(files["fp32"]).card)


def exported_subjects() -> list[Subject]:
    """Exported files, those of one run together. Raises CellclfError where $CELLCLF_BENCH_MODELS holds none, or two of one run and precision.

    A damaged file raises ModelFileError.
    """
    given = os.environ.get("CELLCLF_BENCH_MODELS")
    folder = Path(given or ROOT / "exported")
    paths = sorted(folder.glob("*.onnx"))
    if given and not paths:
        raise CellclfError(f"CELLCLF_BENCH_MODELS={given} is no folder with .onnx files")
    of_run: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
    cards: dict[tuple[str, ...], Card] = {}
    for path in paths:
        card = read_model_file(path).card
        run = (card.name, card.recipe_fingerprint, card.data_fingerprint)
        if (other := of_run[run].get(card.precision)) is not None:
            raise CellclfError(f"{other} and {path} both hold {card.name} in {card.precision}; leave one of them in the folder")
        of_run[run][card.precision] = path
        if card.precision == "fp32" or run not in cards:
            cards[run] = card
    return [
        Subject(card.name, card.backbone, card.height_px, "exported", ", ".join(path.name for path in of_run[run].values()), of_run[run], card)
        for run, card in cards.items()
    ]


def skeleton(backbone: str) -> Subject:
    """The backbone at its published image size with random weights."""
    row = BACKBONES.find(backbone)
    says = f"{row.title}, random weights, exported by cellclf; int8 by plain rounding, ranges from drawn images, only narrow layers in fp32"
    return Subject(f"{backbone}-{row.image_size_px}", backbone, row.image_size_px, "skeleton", says)


def subjects(*, full: bool) -> list[Subject]:
    """Exported files, and skeletons of the backbones that have no exported file of the published size; not full: of the first one only."""
    found = exported_subjects()
    there = {(each.backbone, each.image_size_px) for each in found}
    wanted = list(BACKBONES) if full else [next(name for name in STUDY_BACKBONES)]
    made = [skeleton(name) for name in wanted if (name, BACKBONES[name].image_size_px) not in there]
    return [*made, *found]


def _skeleton_folder(backbone: str) -> Path:
    """Named by the versions and the code that decide what graph an export has, so that other ones make it anew."""
    digest = hashlib.sha256(repr(sorted(installed_versions().items())).encode())
    for path in (*sorted(Path(artifact.__file__).parent.glob("*.py")), Path(network.__file__), Path(__file__).with_name("skeleton.py")):
        digest.update(path.read_bytes())
    return cache_folder() / "benchmarks" / f"{backbone}-{digest.hexdigest()[:16]}"


def _remove_older(folder: Path) -> None:
    for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
