"""What these scripts share: where results go, the machine beside every figure, and JSON files that a killed run leaves whole."""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cellclf.backbones import BACKBONES
from cellclf.documents import Document
from cellclf.environment import Environment
from cellclf.storage import new_file

__all__ = ["CARRY", "STUDY_BACKBONES", "Machine", "Result", "arguments", "image_size_px", "machine", "save", "say", "store", "title"]

HERE = Path(__file__).resolve().parent
CARRY = HERE / "carry"
STUDY_BACKBONES = ("mobilenet", "inceptionv3", "xception", "resnet50", "vgg16")
_PACKAGES = ("torch", "torchvision", "triton", "jaxlib", "jax-cuda13-plugin", "optree", "nvidia-cudnn-cu13", "nvidia-cublas")
_GPU_FIELDS = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "power.limit", "temperature.gpu")


class Machine(Document):
    """The environment, more packages' versions, and what nvidia-smi says of the first GPU; gpu is empty where there is none."""

    environment: Environment
    packages: dict[str, str]
    gpu: dict[str, str]
    load_average: float


class Result(Document):
    """One script's figures. check: made at tiny sizes to see that the script works; no figure of it means anything."""

    kind: str
    check: bool
    command: str
    machine: Machine
    rows: tuple[dict[str, Any], ...]


def machine() -> Machine:
    """Ask this machine; the clocks are those of now, so ask right after the work."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(environment=Environment.of_this_machine(), packages=found, gpu=_gpu(), load_average=os.getloadavg()[0])


def _gpu() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_GPU_FIELDS, (part.strip() for part in done.stdout.split(",")), strict=False))


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what all scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="tiny sizes on the CPU: shows that the script works, measures nothing")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or HERE / "out"), help="folder of the JSON (default: $OUT)")
    parser.add_argument("--carry", type=Path, default=CARRY, help="what prepare.py made (default: benchmarks/gpu/carry)")
    return parser


def save(kind: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> Path:
    """Write what there is so far as OUT/kind.json."""
    path: Path = options.out / f"{kind}.json"
    command = " ".join(["python -m", f"benchmarks.gpu.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    Result(kind=kind, check=options.check, command=command, machine=machine(), rows=tuple(rows)).write(path)
    return path


def store(path: Path, content: Any) -> None:
    """Write JSON that is whole also where the process is killed meanwhile."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def say(text: str) -> None:
    """A line on standard output, at once."""
    print(text, flush=True)


def image_size_px(backbone: str) -> int:
    """The backbone's native size."""
    return BACKBONES[backbone].image_size_px


def title(backbone: str) -> str:
    """The backbone's name in a table."""
    return BACKBONES[backbone].title
