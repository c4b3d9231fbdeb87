"""One run from recipe to run folder: data, network, epochs, evaluation of the kept weights. The only function most callers need is `train`."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.backbones import BACKBONES
from cellclf.data.manifest import SPLITS, Split
from cellclf.data.prepare import Prepared, prepare, reopen
from cellclf.data.scan import check_named
from cellclf.environment import Environment
from cellclf.errors import RunError
from cellclf.evaluation.metrics import SplitMetrics, measure
from cellclf.storage import locked, new_file, new_folder
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.checkpoint import FitState, clear_checkpoints, load_state
from cellclf.training.constant import with_constant_weights
from cellclf.training.curves import draw_curves
from cellclf.training.fit import Examples, fit, predict, prepare_backend, steps_per_epoch
from cellclf.training.framework import backend, require_installed, require_keras, runs_on_cpu
from cellclf.training.imbalance import label_prior
from cellclf.training.network import Network, build_network, parameters_of
from cellclf.training.progress import Progress
from cellclf.training.recipe import Recipe
from cellclf.training.run import FINISHED, LearningTime, Run, RunMetrics, Setup, write_history
from cellclf.training.weights import resolve_weights

__all__ = ["check", "resume", "train"]

_FEATURE_BATCH = 64


@dataclass
class _Sitting:
    """One process's part of a run."""

    run: Run
    recipe: Recipe
    prepared: Prepared
    weights: Path | None
    state: FitState
    progress: Progress
    started: float
    fresh: bool


def train(recipe: Recipe, folder: Path, *, progress: Progress | None = None) -> Run:
    """Train into a new run folder and return it, finished.

    Raises DataError, WeightsError, RunError before the folder is made; a killed run leaves a folder that `resume` continues.
    """
    watcher = progress or Progress()
    _check_writable(folder)
    with _alone_in(folder):
        weights = check(recipe, folder)
        require_keras()
        started = time.perf_counter()
        prepared = prepare(recipe.data, view=recipe.view, on_progress=watcher.stage)
        return _finish(_Sitting(Run(folder), recipe, prepared, weights, FitState(), watcher, started, fresh=True))


def check(recipe: Recipe, folder: Path) -> Path | None:
    """Raise what can be known before anything is read: RunError for a folder that exists, DataError, WeightsError, MissingExtraError.

    Returns where the weights are, None for a random start.
    """
    if os.path.lexists(folder):
        raise RunError(f"{folder} exists already; give another --name, or continue it with --resume {folder.name}")
    _check_writable(folder)
    AUGMENTATIONS.find(recipe.augmentation)
    check_named(recipe.data.data)
    require_installed()
    return resolve_weights(BACKBONES.find(recipe.backbone), recipe.weights)


def _check_writable(folder: Path) -> None:
    """Raise RunError where no run folder can be made."""
    above = next(parent for parent in folder.absolute().parents if os.path.exists(parent))  # noqa: PTH110  # Path.exists raises where it may not look
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise RunError(f"{folder} cannot be made: {above} is {'not writable' if above.is_dir() else 'no folder'}")


def resume(run: Run, *, progress: Progress | None = None) -> Run:
    """Continue a run after its last whole epoch; a finished run is returned as it is. Raises RunError, DataError."""
    watcher = progress or Progress()
    with _alone_in(run.folder):
        if run.finished:
            clear_checkpoints(run.folder)  # a kill after the last file was written leaves them behind
            return run
        setup = run.setup()
        require_keras()
        started = time.perf_counter()
        weights = resolve_weights(BACKBONES.find(setup.recipe.backbone), setup.recipe.weights)
        prepared = reopen(run.manifest(), setup.data, view=setup.recipe.view, on_progress=watcher.stage)
        return _finish(_Sitting(run, setup.recipe, prepared, weights, load_state(run.folder), watcher, started, fresh=False))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While it lasts no other process trains into this run folder; raises RunError where one does."""
    with locked(folder.with_name(f".{folder.name}.lock")) as free:
        if not free:
            raise RunError(f"another process is training into {folder}; give another --name, or wait for it")
        yield


def _finish(sitting: _Sitting) -> Run:
    recipe, prepared, state, run = sitting.recipe, sitting.prepared, sitting.state, sitting.run
    state.data_s += time.perf_counter() - sitting.started
    prepare_backend(recipe)
    built = time.perf_counter()
    images = {split: _examples(prepared, split) for split in SPLITS}
    prior = label_prior(
        images["train"].truth,
        prepared.manifest.group_keys("train"),
        len(prepared.manifest.labels),
        recipe.logit_adjustment,
        recipe.logit_adjustment_strength,
    )
    steps = steps_per_epoch(len(images["train"].rows), recipe.batch_size)
    network = build_network(recipe, classes=len(prepared.manifest.labels), weights=sitting.weights, steps_per_epoch=steps)
    state.compile_s += time.perf_counter() - built
    _write_setup(sitting, network)
    model, inputs = _what_to_fit(sitting, network, images)
    alone = model is network.head and recipe.tta == "none"  # the head on its features gives the answers
    fit(
        model,
        recipe,
        inputs["train"],
        inputs["validation"],
        folder=run.folder,
        state=state,
        progress=sitting.progress,
        prior=prior,
    )
    probabilities = _measured(sitting, network.head if alone else network.answers, inputs if alone else images)
    with new_file(run.weights) as temporary:
        network.whole.save_weights(temporary)
    run.write_predictions(prepared.manifest, probabilities)
    _write_metrics(sitting, network, probabilities)
    clear_checkpoints(run.folder)
    return run


def _examples(prepared: Prepared, split: Split) -> Examples:
    entries = prepared.manifest.split(split)
    number = {label: index for index, label in enumerate(prepared.manifest.labels)}
    truth = np.array([number[entry.label] for entry in entries], dtype=np.int64)
    return Examples(prepared.pixels.pixels, prepared.pixels.rows(entry.sha256 for entry in entries), truth)


def _write_setup(sitting: _Sitting, network: Network) -> None:
    """Make the run folder with everything that is known before the first epoch; on resuming, check that the start is the same."""
    setup = Setup(
        recipe=sitting.recipe,
        data=sitting.prepared.record,
        weights_sha256=network.weights_sha256,
        batch_norm_momentum=network.batch_norm_momentum,
    )
    run = sitting.run
    if not sitting.fresh:
        if run.setup().weights_sha256 != setup.weights_sha256:
            raise RunError(f"the pretrained weights at {sitting.weights} are not those that {run.name} started from")
        return
    if run.folder.exists():
        raise RunError(f"{run.folder} was made by something else meanwhile; give another --name")
    with new_folder(run.folder) as temporary:
        setup.write(temporary / "recipe.json")
        sitting.prepared.manifest.write(temporary / "manifest.csv")
        provider = "CPU" if runs_on_cpu() else "GPU"
        Environment.of_this_machine(keras_backend=backend(), provider=provider).write(temporary / "environment.json")
        write_history(temporary, ())


def _what_to_fit(sitting: _Sitting, network: Network, images: dict[Split, Examples]) -> tuple[Any, dict[Split, Examples]]:
    """The whole network on images; or, for a frozen backbone, its head on features that are computed once."""
    if not sitting.recipe.features_once:
        if sitting.recipe.freeze == "all":
            sitting.progress.note(
                "the backbone is frozen but the images vary, so its features are computed anew each epoch (--augment none avoids it)"
            )
        return network.training, images
    started = time.perf_counter()
    total = sum(len(examples.rows) for examples in images.values())
    parts: list[npt.NDArray[np.float32]] = []
    backbone = with_constant_weights(network.features)
    features: dict[Split, Examples] = {}
    for split, examples in images.items():
        before = sum(len(part) for part in parts)
        values = predict(
            backbone,
            examples,
            batch_size=_FEATURE_BATCH,
            on_progress=lambda done, _, before=before: sitting.progress.stage("features", before + done, total),  # type: ignore[misc]  # default binds
        )
        parts.append(values)
        features[split] = Examples(values, np.arange(len(values)), examples.truth)
    if not sitting.state.history:
        sitting.state.data_s += time.perf_counter() - started
    return network.head, features


def _measured(sitting: _Sitting, model: Any, inputs: dict[Split, Examples]) -> dict[Split, npt.NDArray[np.float32]]:
    """Probabilities of the kept weights on validation and test."""
    asked: tuple[Split, ...] = ("validation", "test")
    return {split: predict(model, inputs[split], batch_size=max(sitting.recipe.batch_size, _FEATURE_BATCH)) for split in asked}


def _write_metrics(sitting: _Sitting, network: Network, probabilities: dict[Split, npt.NDArray[np.float32]]) -> None:
    state, run = sitting.state, sitting.run
    kept = state.best_epoch if sitting.recipe.patience else len(state.history)
    row = state.history[kept - 1]
    metrics = RunMetrics(
        parameters=parameters_of(network),
        epochs_run=len(state.history),
        best_epoch=state.best_epoch,
        weights_epoch=kept,
        stopped_early=state.stopped_early,
        train_loss=row.train_loss,
        train_accuracy=row.train_accuracy,
        validation=_split_metrics(sitting.prepared, "validation", probabilities["validation"]),
        test=_split_metrics(sitting.prepared, "test", probabilities["test"]),
        learning_time=LearningTime(data_s=state.data_s, compile_s=state.compile_s, fit_s=state.fit_s),
        images_per_second=float(np.median([epoch.images_per_second for epoch in state.history])),
    )
    draw_curves(run.folder / "curves.png", tuple(state.history), kept_epoch=kept, title=run.name)
    metrics.write(run.folder / FINISHED)


def _split_metrics(prepared: Prepared, split: Split, probabilities: npt.NDArray[np.float32]) -> SplitMetrics:
    manifest = prepared.manifest
    return measure(
        probabilities,
        _examples(prepared, split).truth,
        manifest.labels,
        groups=manifest.group_keys(split),
        unit="group" if prepared.record.groups_known else "file",
    )
