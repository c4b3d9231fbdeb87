"""One run of the study, in its own process: by cellclf's own `train`, or with the data set on the card; either goes on after its last epoch."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.depthwise import depthwise_way
from benchmarks.gpu.resident import Resident, require_gpu, state_of
from benchmarks.gpu.turns import wait_for_turn
from cellclf.backbones import BACKBONES
from cellclf.data.manifest import Split
from cellclf.data.prepare import Prepared, prepare
from cellclf.evaluation.metrics import IntervalUnit, measure
from cellclf.evaluation.scores import cross_entropy
from cellclf.storage import new_file
from cellclf.training.fit import epoch_order
from cellclf.training.recipe import Recipe
from cellclf.training.run import Run, RunMetrics
from cellclf.training.train import resume, train
from cellclf.training.weights import resolve_weights

CHECKPOINT_EVERY = 10


def run(recipe: Recipe, folder: Path, *, route: str, check: bool, turn: Path | None = None) -> None:
    """Run or continue; leaves result.json, or progress.json where it is killed. turn: see turns.py; what compiles does so before."""
    require_gpu(check=check)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    fields = _by_cellclf(recipe, folder, turn) if route == "cellclf" else _resident(recipe, folder, turn)
    fields |= {"sitting_s": time.perf_counter() - started, "recipe": recipe.model_dump(mode="json")}
    _store(folder / "result.json", fields)


def _by_cellclf(recipe: Recipe, folder: Path, turn: Path | None) -> dict[str, Any]:
    """cellclf's own training, which keeps its own checkpoints, and compiles in its turn."""
    wait_for_turn(turn)
    target = folder / "run"
    found = resume(Run(target)) if (target / "recipe.json").exists() else train(recipe, target)
    metrics: RunMetrics = found.metrics()
    return {
        "epochs": metrics.epochs_run,
        "images_per_second": metrics.images_per_second,
        "data_s": metrics.learning_time.data_s,
        "compile_s": metrics.learning_time.compile_s,
        "fit_s": metrics.learning_time.fit_s,
        "validation_accuracy": metrics.validation.accuracy.value,
        "test_accuracy": metrics.test.accuracy.value,
    }


def _resident(recipe: Recipe, folder: Path, turn: Path | None) -> dict[str, Any]:
    """The same recipe with everything on the card: an epoch is one compiled call."""
    started = time.perf_counter()
    prepared = prepare(recipe.data, view=recipe.view)
    images, truth = _part(prepared, "train")
    validation = _part(prepared, "validation")
    data_s = time.perf_counter() - started
    order = epoch_order(len(truth), recipe.batch_size, seed=recipe.seed, epoch=1)
    weights = resolve_weights(BACKBONES.find(recipe.backbone), recipe.weights)
    resident = Resident.of(recipe, images, truth, classes=len(prepared.manifest.labels), total_steps=len(order) * recipe.epochs, weights=weights)
    resident.compile(order)
    _probabilities(resident, validation[0])  # compiles
    waited_s = wait_for_turn(turn)
    fields = _load(resident, folder) or {"epochs": 0, "data_s": 0.0, "compile_s": 0.0, "fit_s": 0.0, "history": []}
    fields |= {"data_s": fields["data_s"] + data_s, "compile_s": fields["compile_s"] + resident.compile_s}
    while fields["epochs"] < recipe.epochs:
        epoch = fields["epochs"] + 1
        began = time.perf_counter()
        loss, accuracy = resident.run(epoch_order(len(truth), recipe.batch_size, seed=recipe.seed, epoch=epoch))
        trained_s = time.perf_counter() - began
        if not np.isfinite(loss):
            raise SystemExit(f"epoch {epoch}: the loss is {loss}")
        resident.write_back()
        probabilities = _probabilities(resident, validation[0])
        fields["epochs"] = epoch
        fields["fit_s"] += time.perf_counter() - began
        fields["history"].append(
            {
                "train_loss": loss,
                "train_accuracy": accuracy,
                "validation_loss": cross_entropy(probabilities, validation[1]),
                "validation_accuracy": float((probabilities.argmax(axis=1) == validation[1]).mean()),
                "images_per_second": order.size / trained_s,
                "seconds": time.perf_counter() - began,
            }
        )
        if epoch % CHECKPOINT_EVERY == 0 or epoch == recipe.epochs:
            _save(resident, folder, fields)
    share = resident.gather_s(order) / (order.size / float(np.median([row["images_per_second"] for row in fields["history"]])))
    extra = {"waited_s": waited_s, "input_share": share, "device": str(resident.images.device), "depthwise": depthwise_way()}
    return fields | extra | _finished(resident, prepared, fields)


def _finished(resident: Resident, prepared: Prepared, fields: dict[str, Any]) -> dict[str, Any]:
    """Figures of the last weights on validation and test, with intervals over families where they are known."""
    found: dict[str, Any] = {"images_per_second": float(np.median([row["images_per_second"] for row in fields["history"]]))}
    resident.write_back()
    asked: tuple[Split, ...] = ("validation", "test")
    for split in asked:
        images, truth = _part(prepared, split)
        unit: IntervalUnit = "group" if prepared.record.groups_known else "file"
        groups = prepared.manifest.group_keys(split)
        measured = measure(_probabilities(resident, images), truth, prepared.manifest.labels, groups=groups, unit=unit)
        found |= {f"{split}_accuracy": measured.accuracy.value, f"{split}_interval": [measured.accuracy.low, measured.accuracy.high]}
        balanced = measured.balanced_accuracy
        found |= {f"{split}_balanced_accuracy": balanced.value, f"{split}_balanced_interval": [balanced.low, balanced.high]}
    return found


def _part(prepared: Prepared, split: Split) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images and class numbers of a split, in memory."""
    entries = prepared.manifest.split(split)
    number = {label: index for index, label in enumerate(prepared.manifest.labels)}
    rows = prepared.pixels.rows(entry.sha256 for entry in entries)
    return np.ascontiguousarray(prepared.pixels.pixels[rows]), np.array([number[entry.label] for entry in entries], dtype=np.int64)


def _probabilities(resident: Resident, images: npt.NDArray[np.uint8], batch: int = 256) -> npt.NDArray[np.float32]:
    """Run the network over images; all batches have one size."""
    size = min(batch, len(images))
    parts = []
    for start in range(0, len(images), size):
        rows = np.arange(start, min(start + size, len(images)))
        parts.append(np.asarray(resident.network.whole.predict_on_batch(images[np.resize(rows, size)]), dtype=np.float32)[: len(rows)])
    return np.concatenate(parts)


def _save(resident: Resident, folder: Path, fields: dict[str, Any]) -> None:
    arrays = {f"{part}-{number}": np.asarray(value) for part, values in enumerate(resident.state) for number, value in enumerate(values)}
    with new_file(folder / "checkpoint.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, fields=np.array(json.dumps(fields)), **arrays)  # type: ignore[arg-type]
    _store(folder / "progress.json", fields)


def _load(resident: Resident, folder: Path) -> dict[str, Any] | None:
    if not (folder / "checkpoint.npz").exists():
        return None
    import jax

    with np.load(folder / "checkpoint.npz") as stored:
        parts = state_of(resident.network.training, resident.optimizer)
        resident.state = tuple([jax.device_put(stored[f"{part}-{number}"]) for number in range(len(values))] for part, values in enumerate(parts))  # type: ignore[assignment]
        fields: dict[str, Any] = json.loads(str(stored["fields"]))
    return fields


def _store(path: Path, fields: dict[str, Any]) -> None:
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(fields, indent=1), encoding="utf-8")
