"""Training speed of one backbone with Keras on JAX, bf16, everything on the card, in a process of its own; with and without the input."""

import argparse
import json
import time
from typing import Any

import numpy as np

from benchmarks.gpu.record import arguments, say
from benchmarks.gpu.resident import Resident, require_gpu
from benchmarks.gpu.timing import rate
from cellclf.data.request import DataRequest
from cellclf.training.recipe import Recipe, make_recipe

IMAGES = 4096


def recipe_of(options: argparse.Namespace, augmentation: str) -> Recipe:
    """The study's network and optimizer in bf16."""
    return make_recipe(
        options.backbone,
        DataRequest(data="blood-cells"),
        weights="none",
        hidden=(8,),
        augmentation=augmentation,
        batch_size=options.batch,
        precision="mixed_bfloat16",
        image_size_px=options.size or None,
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images a second in steady state: gathered and plain; from one fixed batch; gathered and varied."""
    require_gpu(check=options.check)
    row: dict[str, Any] = {"engine": "keras-jax", "backbone": options.backbone, "batch": options.batch}
    for name, augmentation, gather in (("plain", "none", True), ("no input", "none", False), ("augmented", "cells", True)):
        if name not in options.parts:
            continue
        try:
            row[name] = _speed(recipe_of(options, augmentation), options, gather=gather)
        except (RuntimeError, ValueError) as error:  # XLA's errors are RuntimeErrors
            row[name] = {"invalid": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
        say(json.dumps({name: row[name]}))
        _write(row, options)
    if all("per_second" in row.get(name, {}) for name in ("plain", "no input")):
        row["input_share"] = 1 - row["plain"]["per_second"] / row["no input"]["per_second"]
    if all("per_second" in row.get(name, {}) for name in ("plain", "augmented")):
        row["augmentation_share"] = 1 - row["augmented"]["per_second"] / row["plain"]["per_second"]
    return row


def _speed(recipe: Recipe, options: argparse.Namespace, *, gather: bool) -> dict[str, Any]:
    import jax

    generator = np.random.default_rng(0)
    count = 2 * recipe.batch_size if options.check else IMAGES
    images = generator.integers(0, 256, size=(count, recipe.image_size_px, recipe.image_size_px, 3), dtype=np.uint8)
    truth = generator.integers(0, 4, size=count)
    resident = Resident.of(recipe, images, truth, classes=4, total_steps=1000, gather=gather)
    positions = np.stack([generator.permutation(count)[: recipe.batch_size] for _ in range(2 if options.check else options.steps)])
    resident.compile(positions)
    losses: list[float] = []

    def run(calls: int) -> None:
        losses.extend(resident.run(positions)[0] for _ in range(calls))

    started = time.perf_counter()
    run(1)
    first_s = time.perf_counter() - started
    found = rate(run, items=positions.size, window_s=0.01 if options.check else 1.5)
    if not np.isfinite(losses).all():
        raise ValueError("the loss is no longer finite")
    device = str(jax.devices()[0])
    return found.record() | {
        "compile_s": resident.compile_s,
        "first_call_s": first_s,
        "device": device,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def _write(row: dict[str, Any], options: argparse.Namespace) -> None:
    with open(options.result, "w", encoding="utf-8") as stream:  # noqa: PTH123
        json.dump(row, stream)


def main() -> None:
    """Write the row to --result after each part."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20, help="steps in one compiled call")
    parser.add_argument("--parts", nargs="*", default=("plain", "no input", "augmented"))
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    _write(measure(options), options)


if __name__ == "__main__":
    main()
