"""Make what must travel to the GPU machine, in benchmarks/gpu/carry/: skeletons, wheels, images, in pieces that one call each can take.

Runs where TensorFlow, tf2onnx and a package registry are. `--check` writes tiny skeletons only.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, say
from benchmarks.gpu.skeleton import FILL_SEED, calibrated_scales, fill, strip, write_skeleton
from benchmarks.gpu.slim import slim_wheel
from cellclf.artifact.golden import golden_image

PIECE_BYTES = 56_500_000
"""A call takes 64 MiB with the working tree, which is 8 MB."""
LARGEST_WEIGHTS_BYTES = 12_000_000
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SMALL_WHEELS = ("keras", "optree", "namex", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions")
"""In the versions that are installed here: what the GPU machine lacks."""
ONNXRUNTIME = "onnxruntime-gpu==1.31.1"
CHECK_SIZES_PX = {"inceptionv3": 96, "xception": 96}
HIDDEN, CLASSES = (8,), 4


def main() -> None:
    """Write carry/."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="*", choices=("skeletons", "wheels", "data"), default=("skeletons", "wheels", "data"))
    parser.add_argument("--backbones", nargs="*", choices=STUDY_BACKBONES, default=STUDY_BACKBONES)
    options = parser.parse_args()
    if "skeletons" in options.only or options.check:
        skeletons(options)
    if options.check:
        return
    if "wheels" in options.only:
        wheels(options)
    if "data" in options.only:
        data(options)
    pack(options)


def skeletons(options: argparse.Namespace) -> None:
    """One gzipped skeleton a backbone, of the very graph that `cellclf export` would write in fp32."""
    for backbone in options.backbones:
        model = exported_graph(backbone, CHECK_SIZES_PX.get(backbone, 64) if options.check else None)
        height, width = (model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value for axis in (1, 2))
        images = np.stack([golden_image(seed, height_px=height, width_px=width) for seed in range(2)])
        skeleton = strip(model, calibrated_scales(model, images))
        path = options.carry / "skeletons" / f"{backbone}.onnx.gz"
        write_skeleton(skeleton, path)
        fill(skeleton)
        say(f"{path.name}: {height} px, {path.stat().st_size / 1e3:.0f} kB")


def exported_graph(backbone: str, size_px: int | None) -> Any:
    """The fp32 graph of the study's network of this backbone, with Keras' random start, the same each time."""
    from cellclf.artifact.convert import to_onnx
    from cellclf.data.request import DataRequest
    from cellclf.training.framework import require_keras
    from cellclf.training.network import build_network
    from cellclf.training.recipe import make_recipe

    keras = require_keras("tensorflow")
    keras.utils.clear_session()
    keras.utils.set_random_seed(FILL_SEED)
    recipe = make_recipe(backbone, DataRequest(data="blood-cells"), weights="none", hidden=HIDDEN, image_size_px=size_px)
    return to_onnx(build_network(recipe, classes=CLASSES, weights=None, steps_per_epoch=1).whole)


def wheels(options: argparse.Namespace) -> None:
    """Keras, pydantic and their small needs; ONNX Runtime for CUDA 13, slimmed."""
    small = [f"{name}=={importlib.metadata.version(name)}" for name in SMALL_WHEELS]
    _download(small, options.carry / "parts" / "wheels")
    whole = options.carry / "whole"
    _download([ONNXRUNTIME], whole)
    (wheel,) = whole.glob("*.whl")
    blanked = slim_wheel(wheel, options.carry / "parts" / "onnxruntime")
    say(f"{wheel.name}: {blanked / 1e6:.0f} MB of machine code for other GPU generations blanked")


def _download(packages: list[str], target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON]
    subprocess.run([*command, "--implementation", "cp", *platforms, "--dest", str(target), *packages], check=True)


def data(options: argparse.Namespace) -> None:
    """The blood-cell files as they are (decoding them there takes seconds; decoded they are 40 times larger), and their families where known."""
    from cellclf.data.audit.kept import recovered_families
    from cellclf.data.cache import hash_files
    from cellclf.data.datasets import DATASETS, locate
    from cellclf.data.scan import scan
    from cellclf.storage import cache_folder

    root = locate(DATASETS["blood-cells"])
    target = options.carry / "parts" / "data"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for folder in ("TRAIN", "TEST"):
        shutil.copytree(root / folder, target / "blood-cells" / folder, copy_function=shutil.copyfile)
    found = scan("blood-cells", group_rule=None)
    files = [root / file.path for file in found.files]
    recovered_families({sha: path for sha, path in zip(hash_files(files), files, strict=True) if sha})
    shutil.copytree(cache_folder() / "families", target / "families")
    say(f"data: {len(files)} files; ImageNet weights: {', '.join(_weights(options.carry / 'parts' / 'weights'))}")


def _weights(target: Path) -> list[str]:
    """Copy the small weights files that $CELLCLF_WEIGHTS holds; their names. Large ones would need calls of their own."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    folder = Path(os.environ.get("CELLCLF_WEIGHTS") or "none")
    found = [path for path in sorted(folder.glob("*.h5")) if path.stat().st_size <= LARGEST_WEIGHTS_BYTES]
    for path in found:
        shutil.copyfile(path, target / path.name)
    return [path.name for path in found]


def pack(options: argparse.Namespace) -> None:
    """Each part as one compressed archive, cut: pieces/N/NAME.MM-of-MM, a folder a call; skeletons and small wheels go with the first."""
    parts, pieces = options.carry / "parts", options.carry / "pieces"
    shutil.rmtree(pieces, ignore_errors=True)
    (pieces / "1").mkdir(parents=True)
    number, room = 1, PIECE_BYTES
    for name, folders in (("base", ("wheels", "skeletons")), ("onnxruntime", ("onnxruntime",)), ("data", ("data", "weights"))):
        whole = parts / f"{name}.tar.xz"
        with tarfile.open(whole, "w:xz", preset=6) as archive:
            for folder in folders:
                archive.add(options.carry / "skeletons" if folder == "skeletons" else parts / folder, arcname=folder)
        number, room = _cut(whole, pieces, number, room)
    (pieces / "COUNT").write_text(f"{number}\n")
    for folder in sorted(path for path in pieces.iterdir() if path.is_dir()):
        say(f"pieces/{folder.name}: {', '.join(f'{path.name} {path.stat().st_size / 1e6:.1f} MB' for path in sorted(folder.iterdir()))}")


def _cut(whole: Path, pieces: Path, number: int, room: int) -> tuple[int, int]:
    """Cut a file over folders, filling the last one first; returns the folder it ended in and the room left there."""
    size = whole.stat().st_size
    cuts: list[tuple[int, int]] = []
    left = size
    while left:
        if room == 0:
            number, room = number + 1, PIECE_BYTES
        taken = min(left, room)
        cuts.append((number, taken))
        left, room = left - taken, room - taken
    with whole.open("rb") as stream:
        for part, (folder, taken) in enumerate(cuts, start=1):
            (pieces / str(folder)).mkdir(exist_ok=True)
            (pieces / str(folder) / f"{whole.name}.{part:02}-of-{len(cuts):02}").write_bytes(stream.read(taken))
    whole.unlink()
    return number, room


if __name__ == "__main__":
    main()
