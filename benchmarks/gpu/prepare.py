"""Make what must travel to the GPU machine, in benchmarks/gpu/carry/: skeletons, wheels, images, in pieces that one call each can take.

Runs where TensorFlow, tf2onnx and a package registry are. `--check` writes tiny skeletons only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, say
from benchmarks.gpu.skeleton import calibrated_scales, fill, strip, write_skeleton
from cellclf.artifact.golden import golden_image

PIECE_BYTES = 54_000_000
"""A call takes 64 MiB with the working tree."""
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SMALL_WHEELS = ("keras==3.15.1", "optree==0.20.0", "namex==0.1.0")
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


def exported_graph(backbone: str, size_px: int | None) -> object:
    """The fp32 graph of the study's network of this backbone, with Keras' random start."""
    from cellclf.artifact.convert import to_onnx
    from cellclf.data.request import DataRequest
    from cellclf.training.framework import require_keras
    from cellclf.training.network import build_network
    from cellclf.training.recipe import make_recipe

    require_keras("tensorflow").utils.clear_session()
    recipe = make_recipe(backbone, DataRequest(data="blood-cells"), weights="none", hidden=HIDDEN, image_size_px=size_px)
    return to_onnx(build_network(recipe, classes=CLASSES, weights=None, steps_per_epoch=1).whole)


def wheels(options: argparse.Namespace) -> None:
    """Keras and its two small needs; ONNX Runtime for CUDA 13."""
    for folder, packages in (("wheels", SMALL_WHEELS), ("onnxruntime", (ONNXRUNTIME,))):
        target = options.carry / "parts" / folder
        target.mkdir(parents=True, exist_ok=True)
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
    with tarfile.open(target / "blood-cells.tar.gz", "w:gz") as archive:
        for folder in ("TRAIN", "TEST"):
            archive.add(root / folder, arcname=f"blood-cells/{folder}")
    found = scan("blood-cells", group_rule=None)
    files = [root / file.path for file in found.files]
    recovered_families({sha: path for sha, path in zip(hash_files(files), files, strict=True) if sha})
    shutil.copytree(cache_folder() / "families", target / "families")
    weights = Path(os.environ.get("CELLCLF_WEIGHTS") or "none")
    say(f"data: {len(files)} files; ImageNet weights of the study's backbones in {weights}: {_study_weights(weights)}")


def _study_weights(folder: Path) -> list[str]:
    from cellclf.backbones import BACKBONES

    return [name for name in STUDY_BACKBONES if (folder / BACKBONES[name].weights_filename).exists()]


def pack(options: argparse.Namespace) -> None:
    """Join each part into one archive and cut it: pieces/N/NAME.MM-of-MM, a folder a call; skeletons and small wheels go with the first."""
    parts, pieces = options.carry / "parts", options.carry / "pieces"
    shutil.rmtree(pieces, ignore_errors=True)
    first = pieces / "1"
    first.mkdir(parents=True)
    with tarfile.open(first / "base.tar", "w") as archive:
        for folder in (parts / "wheels", options.carry / "skeletons"):
            if folder.exists():
                archive.add(folder, arcname=folder.name)
    number, room = 1, PIECE_BYTES - (first / "base.tar").stat().st_size
    for name in ("onnxruntime", "data"):
        if not (parts / name).exists():
            say(f"parts/{name} is not there: it will not travel")
            continue
        whole = parts / f"{name}.tar"
        with tarfile.open(whole, "w") as archive:
            archive.add(parts / name, arcname=name)
        number, room = _cut(whole, pieces, number, room)
    (options.carry / "pieces" / "COUNT").write_text(f"{number}\n")
    for folder in sorted(pieces.iterdir()):
        if folder.is_dir():
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
