"""A proven file → a model of a Triton Inference Server repository: config.pbtxt, labels, numbered versions. Needs neither TensorFlow nor Triton.

The fields are those of ModelConfig in Triton's model_config.proto, the folders those of its guide "Model Repository".
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cellclf.artifact.verify import BATCH_SIZES, prove
from cellclf.card import Card, ModelFile, read_model_file
from cellclf.errors import CellclfError
from cellclf.runtime.classifier import Classifier
from cellclf.storage import new_file, new_folder, sha256_of_file

__all__ = ["CONFIG", "INSTANCE_KINDS", "LABELS", "MODEL", "Deployment", "Written", "check_name", "config_text", "write_triton"]

CONFIG, LABELS, MODEL = "config.pbtxt", "labels.txt", "model.onnx"

INSTANCE_KINDS = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
"""Where Triton runs a model: auto = on its GPUs where it has any, else on the CPU."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]*")  # Triton ignores other folders
_SEAL = "# Written by cellclf export --format triton. SHA-256 of the lines below: "


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """How Triton is to run a model; raises CellclfError for what cannot be.

    max_batch_size: images a batch; the default is the largest batch in which the golden cases are replayed. max_queue_delay_us: microseconds that a
    request may wait for others to share a batch; the default is that of `cellclf serve`. instances: copies of the network at work on each device of
    instance_kind, a name of INSTANCE_KINDS.
    """

    max_batch_size: int = BATCH_SIZES[-1]
    max_queue_delay_us: int = 2000
    instances: int = 1
    instance_kind: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("max_batch_size", 1), ("max_queue_delay_us", 0), ("instances", 1)):
            if getattr(self, name) < least:
                raise CellclfError(f"{name} {getattr(self, name)} must be at least {least}")
        if self.instance_kind not in INSTANCE_KINDS:
            raise CellclfError(f"unknown instance kind {self.instance_kind!r}; known: {', '.join(INSTANCE_KINDS)}")


_DEPLOYMENT = Deployment()


@dataclass(frozen=True)
class Written:
    """The version's folder, its number, and what whoever deploys it must know."""

    path: Path
    version: int
    notes: tuple[str, ...]


def write_triton(file: ModelFile, folder: Path, *, name: str, deployment: Deployment = _DEPLOYMENT) -> Written:
    """Add a file to the repository `folder` as model `name`: a first version, or the next one; older versions are not touched.

    The golden cases are replayed before anything is written. A version appears whole or not at all, and at every moment config.pbtxt fits all the
    versions that are there, because all must have the same labels and pixels. A config.pbtxt that was edited by hand is left as it is.
    Raises CellclfError, ModelFileError, VerificationError.
    """
    model = folder / check_name(name)
    labels = _labels_text(file.card.labels)
    for place in (folder, model):
        if place.exists() and not place.is_dir():
            raise CellclfError(f"{place} is no folder; a model repository is one")
    prove(Classifier(file, device="cpu"))
    while True:
        versions = _versions(model)
        _check_alike(file, versions)
        number, first = max(versions, default=0) + 1, not model.exists()
        if not (first or (model / LABELS).exists()):
            _write(model / LABELS, labels)
        with new_folder(model if first else model / str(number)) as temporary:
            if first:  # Triton may look at the temporary folder: this config, which gives another name than the folder's, keeps it from serving that
                _write(temporary / CONFIG, _sealed(config_text(file.card, name, deployment, {1: file.fingerprint})))
                _write(temporary / LABELS, labels)
            _write((temporary / "1" if first else temporary) / MODEL, file.content)
        path = model / str(number)
        if (path / MODEL).is_file() and sha256_of_file(path / MODEL) == file.fingerprint:
            break  # else another process took the number
    return Written(path, number, (*_edited(file.card, model, deployment, versions=_versions(model)), *_undecided(file.card)))


def check_name(name: str) -> str:
    """The name of a model, which is a folder's and stands in addresses; raises CellclfError for others."""
    if not _NAME.fullmatch(name):
        raise CellclfError(f"{name!r} cannot name a model: use letters, digits and . _ -, beginning with a letter or digit; give another --name")
    return name


def config_text(card: Card, name: str, deployment: Deployment, fingerprints: dict[int, str]) -> str:
    """config.pbtxt in protocol buffers' text format. fingerprints: each version's SHA-256, which is kept as a parameter."""
    classes, largest = len(card.labels), deployment.max_batch_size
    pixels = f"data_type: TYPE_UINT8 dims: [ {card.height_px}, {card.width_px}, 3 ]"
    outputs = [f'{{ name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "{LABELS}" }}']
    if card.heatmap is not None:
        outputs.append(f'{{ name: "heatmaps" data_type: TYPE_FP32 dims: [ {classes}, {card.heatmap[0]}, {card.heatmap[1]} ] }}')
    preferred = sorted({max(1, largest // 4), max(1, largest // 2), largest})
    warmups = [
        f'{{ name: "batch of {size}" batch_size: {size} inputs {{ key: "image" value {{ {pixels} random_data: true }} }} }}'
        for size in sorted({1, largest})
    ]
    parameters = {"resize": card.resize} | {f"sha256_of_version_{number}": value for number, value in sorted(fingerprints.items())}
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {largest}",
        "version_policy { latest { num_versions: 1 } }",
        f'input [ {{ name: "image" {pixels} }} ]',
        *_list("output", outputs),
        f"dynamic_batching {{ preferred_batch_size: {preferred} max_queue_delay_microseconds: {deployment.max_queue_delay_us} }}",
        f"instance_group [ {{ kind: {INSTANCE_KINDS[deployment.instance_kind]} count: {deployment.instances} }} ]",
        *_list("model_warmup", warmups),
        *(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _list(name: str, entries: list[str]) -> list[str]:
    """A repeated field, an entry a line."""
    return [f"{name} [", *(f"  {entry}{',' if entry is not entries[-1] else ''}" for entry in entries), "]"]


def _labels_text(labels: tuple[str, ...]) -> str:
    """A label a line, in the order of the probabilities."""
    for label in labels:
        if not label or re.search(r"[\r\n]", label):
            raise CellclfError(f"label {label!r} cannot stand in Triton's file of labels, which has one a line")
    return "".join(f"{label}\n" for label in labels)


def _versions(model: Path) -> dict[int, Path]:
    """The files of the versions there are."""
    folders = model.iterdir() if model.is_dir() else ()
    return {int(folder.name): folder / MODEL for folder in folders if _VERSION.fullmatch(folder.name) and folder.is_dir()}


def _check_alike(file: ModelFile, versions: dict[int, Path]) -> None:
    """One config and one file of labels hold for all versions; raises CellclfError where this file needs others."""
    for path in versions.values():
        other = read_model_file(path).card
        for field in ("labels", "height_px", "width_px", "resize", "heatmap"):
            here, there = getattr(file.card, field), getattr(other, field)
            if here != there:
                raise CellclfError(
                    f"{path} has {field} {there}, the file to add has {here}: versions of one model must have the same; give another --name"
                )


def _edited(card: Card, model: Path, deployment: Deployment, *, versions: dict[int, Path]) -> tuple[str, ...]:
    """Write the config anew, with every version's hash; leaves one that was edited by hand, and says so."""
    path = model / CONFIG
    if path.exists():
        seal, _, body = path.read_text(encoding="utf-8").partition("\n")
        if seal != _SEAL + hashlib.sha256(body.encode()).hexdigest():
            return (f"{path} was edited by hand and is left as it is; to have it written anew, move it away and export again",)
    fingerprints = {number: sha256_of_file(file) for number, file in versions.items()}
    _write(path, _sealed(config_text(card, model.name, deployment, fingerprints)))
    return ()


def _sealed(body: str) -> str:
    """The text below a comment with its hash, by which a change by hand is known."""
    return f"{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def _undecided(card: Card) -> tuple[str, ...]:
    """What the file decides by, and Triton does not know."""
    decided = [name for name, value in (("threshold", card.operating_point), ("band without an answer", card.abstain)) if value is not None]
    if not decided:
        return ()
    return (f"Triton answers with probabilities only: the client applies the file's {' and '.join(decided)} (docs/triton.md)",)


def _write(path: Path, content: str | bytes) -> None:
    with new_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
