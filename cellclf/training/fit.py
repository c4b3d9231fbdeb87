"""The epochs: batches in an order drawn from (seed, epoch), validation, early stopping, and a checkpoint after each epoch that survives kill -9.

Everything random in an epoch is drawn anew from (seed, epoch), so a resumed run goes on as if it had never stopped.
"""

import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cellclf.errors import CellclfError, RunError
from cellclf.evaluation.scores import cross_entropy
from cellclf.storage import new_file
from cellclf.training.framework import backend, require_keras, runs_on_cpu
from cellclf.training.network import layers_of
from cellclf.training.progress import Progress
from cellclf.training.recipe import OPTIMIZER, Recipe
from cellclf.training.run import Epoch, write_history

__all__ = ["Examples", "FitState", "adjusted_loss", "class_weights", "epoch_order", "fed", "fit", "label_prior", "predict", "steps_per_epoch"]

CHECKPOINT = "checkpoint.npz"
_BATCHES_AHEAD = 2
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises on an .npz file that is not whole."""
_LEAST_PRIOR = 1e-6
"""Share of a label below which its images teach nothing: Keras cuts probabilities at 1e-7."""


@dataclass(frozen=True)
class Examples:
    """Inputs [n, …] (possibly memory-mapped), the rows of them that belong to the set, and the class number of each row."""

    inputs: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]


@dataclass
class FitState:
    """Where a run stands after its last whole epoch."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False
    compile_s: float = 0.0
    fit_s: float = 0.0
    data_s: float = 0.0

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.history) - self.best_epoch


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches an epoch; the last is filled up from the start of the epoch's order, so that all have one size."""
    return -(-images // min(batch_size, images))


def epoch_order(images: int, batch_size: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Positions [steps, batch] of one epoch: a permutation drawn from (seed, epoch), filled up to whole batches from its own start."""
    size = min(batch_size, images)
    order = np.random.default_rng([seed, epoch]).permutation(images)
    steps = steps_per_epoch(images, batch_size)
    return np.resize(order, steps * size).reshape(steps, size)


def class_weights(truth: npt.NDArray[np.int64], classes: int, mode: str) -> npt.NDArray[np.float32] | None:
    """Weight of each class: 'balanced' = images / (classes × images of the class), as scikit-learn has it; None for 'none'."""
    if mode == "none":
        return None
    return (len(truth) / (classes * np.bincount(truth, minlength=classes))).astype(np.float32)


def label_prior(
    truth: npt.NDArray[np.int64], groups: Sequence[str], classes: int, kind: Literal["none", "images", "groups"], strength: float = 1.0
) -> npt.NDArray[np.float32] | None:
    """Each label's share of the images, or of the groups (a group counts once for each label it has), [classes]; None for 'none'.

    strength: the power they are raised to, before they are made to add up to 1 again. Raises CellclfError where that leaves a label next to nothing.
    """
    if kind == "none":
        return None
    labels = truth if kind == "images" else np.array([label for label, _ in set(zip(truth.tolist(), groups, strict=True))])
    counts = np.bincount(labels, minlength=classes)
    powers = (counts / counts.sum()) ** strength
    prior: npt.NDArray[np.float32] = (powers / powers.sum()).astype(np.float32)
    if (prior < _LEAST_PRIOR).any():
        raise CellclfError(
            f"a logit adjustment of strength {strength:g} leaves the rarest label, with {counts.min()} of {counts.sum()} {kind}, a share of "
            f"{prior.min():.1g}, too little to learn from; give a smaller --logit-adjustment-strength"
        )
    return prior


def predict(model: Any, examples: Examples, *, batch_size: int, on_progress: Callable[[int, int], None] | None = None) -> npt.NDArray[np.float32]:
    """Run a model over a set, [n, outputs] float32; all batches have one size (the last is padded), so that nothing is compiled twice."""
    total = len(examples.rows)
    size = min(batch_size, total)
    parts = []
    for start in range(0, total, size):
        rows = examples.rows[start : start + size]
        batch = examples.inputs[np.resize(rows, size)]
        parts.append(np.asarray(model.predict_on_batch(batch), dtype=np.float32)[: len(rows)])
        if on_progress:
            on_progress(min(start + size, total), total)
    return np.concatenate(parts)


def fit(
    model: Any,
    recipe: Recipe,
    train: Examples,
    validation: Examples,
    *,
    folder: Path,
    state: FitState,
    progress: Progress,
    prior: npt.NDArray[np.float32] | None = None,
) -> FitState:
    """Train `model` to the recipe's end from `state`; leaves model with the kept weights (the best epoch's with patience, else the last's).

    prior: [classes], the shares by which the loss shifts probabilities (the recipe's logit_adjustment).
    """
    keras = require_keras()
    classes = int(model.output.shape[-1])
    steps = steps_per_epoch(len(train.rows), recipe.batch_size)
    weight_of = class_weights(train.truth, classes, recipe.class_weight)
    _compile(keras, model, recipe, steps, prior)
    if state.history:
        _restore(model, folder, state)
    watcher = _watcher(keras, progress, recipe)
    while len(state.history) < recipe.epochs and not state.stopped_early:
        epoch = len(state.history) + 1
        _seed_random_layers(keras, model, recipe.seed, epoch)
        progress.epoch_started(epoch, recipe.epochs, steps)
        watcher.begin()
        started = time.perf_counter()
        logs = model.fit(
            fed(partial(_batches, train, recipe, weight_of, epoch)),
            steps_per_epoch=steps,
            epochs=epoch,
            initial_epoch=epoch - 1,
            shuffle=False,
            verbose=0,
            callbacks=[watcher],
        ).history
        probabilities = predict(model, validation, batch_size=max(recipe.batch_size, 64))
        seconds = time.perf_counter() - started
        _account(state, watcher, seconds)
        rate = _rate(keras, model)
        row = _row(epoch, logs, probabilities, validation.truth, rate, seconds, watcher.images_per_second)
        _add(state, row, recipe)
        _checkpoint(model, folder, state)
        progress.epoch_ended(row, best=state.best_epoch == epoch, seconds_left=seconds * (recipe.epochs - epoch))
    if recipe.patience:
        _load_npz(model.weights, folder / _best_name(state.best_epoch), "w")
    return state


def load_state(folder: Path) -> FitState:
    """The state of an unfinished run: after its last whole epoch, or fresh where it has none; raises RunError where it is damaged."""
    if not (folder / CHECKPOINT).exists():
        return FitState()
    try:
        with (folder / CHECKPOINT).open("rb") as stream, np.load(stream) as stored:
            fields = json.loads(str(stored["state"]))
    except _DAMAGED as error:
        raise RunError(f"{folder / CHECKPOINT} is damaged: {error}; start a new run") from error
    history = [Epoch.model_validate(row) for row in fields.pop("history")]
    return FitState(history=history, **fields)


def clear_checkpoints(folder: Path) -> None:
    """Remove what only a resume needs, and what killed writes left behind."""
    for path in [*folder.glob("best-*.npz"), *folder.glob(CHECKPOINT), *folder.glob(".*-*")]:
        path.unlink(missing_ok=True)


def _compile(keras: Any, model: Any, recipe: Recipe, steps: int, prior: npt.NDArray[np.float32] | None) -> None:
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=steps * recipe.epochs)
    model.compile(
        optimizer=getattr(keras.optimizers, OPTIMIZER)(rate),
        loss=keras.losses.SparseCategoricalCrossentropy() if prior is None else adjusted_loss(keras, prior),
        metrics=["accuracy"],
        # XLA makes TensorFlow's convolutions several times slower on a CPU; JAX cannot do without it.
        jit_compile=backend() == "jax" or not runs_on_cpu(),
    )
    model.optimizer.build(model.trainable_variables)


def adjusted_loss(keras: Any, prior: npt.NDArray[np.float32]) -> Any:
    """Cross-entropy of probabilities that are multiplied by the prior and made to add up to 1: Menon et al. 2021, equation 10."""

    def logit_adjusted(truth: Any, probabilities: Any) -> Any:
        shifted = probabilities * prior
        return keras.losses.sparse_categorical_crossentropy(truth, shifted / keras.ops.sum(shifted, axis=-1, keepdims=True))

    return logit_adjusted


def _batches(train: Examples, recipe: Recipe, weight_of: npt.NDArray[np.float32] | None, epoch: int) -> Iterator[tuple[Any, ...]]:
    for positions in epoch_order(len(train.rows), recipe.batch_size, seed=recipe.seed, epoch=epoch):
        inputs, truth = train.inputs[train.rows[positions]], train.truth[positions]
        yield (inputs, truth) if weight_of is None else (inputs, truth, weight_of[truth])


def fed(batches: Callable[[], Iterator[tuple[npt.NDArray[Any], ...]]]) -> Any:
    """Batches, all of one size, as `fit` takes them without waiting at an epoch's end.

    Of a generator Keras makes a tf.data pipeline that tunes itself in a thread. It sleeps 10 ms, 20 ms, 40 ms and so on up to a minute, and where it
    sleeps when the pipeline is let go, that waits for it: an epoch of 24 s could last 41 (benchmarks/test_epochs.py). Without tuning there is none.
    """
    if backend() != "tensorflow":
        return batches()
    import tensorflow

    first = next(batches())
    signature = tuple(tensorflow.TensorSpec(part.shape, part.dtype) for part in first)
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return tensorflow.data.Dataset.from_generator(batches, output_signature=signature).prefetch(_BATCHES_AHEAD).with_options(options)


def _watcher(keras: Any, progress: Progress, recipe: Recipe) -> Any:
    """A Keras callback that passes batches on to `progress` and measures the first step apart from the others."""

    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def begin(self) -> None:
            self.started = time.perf_counter()
            self.first_step_s = self.images_per_second = 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            now = time.perf_counter()
            if batch == 0:
                self.first_step_s, self.after_first = now - self.started, now
                self.images_per_second = recipe.batch_size / self.first_step_s  # all there is where an epoch has one step
            else:
                self.images_per_second = batch * recipe.batch_size / (now - self.after_first)
            shown = logs or {}
            progress.batch_done(batch + 1, loss=shown["loss"], accuracy=shown["accuracy"], images_per_second=self.images_per_second)

    return Watcher()


def _account(state: FitState, watcher: Any, seconds: float) -> None:
    """Book an epoch's seconds; the first step of a sitting compiles, the others' first step is ordinary."""
    compiling = watcher.first_step_s if not getattr(watcher, "compiled", False) else 0.0
    watcher.compiled = True
    state.compile_s += compiling
    state.fit_s += seconds - compiling


def _row(epoch: int, logs: Any, probabilities: Any, truth: Any, rate: float, seconds: float, speed: float) -> Epoch:
    return Epoch(
        epoch=epoch,
        train_loss=float(logs["loss"][-1]),
        train_accuracy=float(logs["accuracy"][-1]),
        validation_loss=cross_entropy(probabilities, truth),
        validation_accuracy=float((probabilities.argmax(axis=1) == truth).mean()),
        learning_rate=rate,
        seconds=seconds,
        images_per_second=speed,
    )


def _add(state: FitState, row: Epoch, recipe: Recipe) -> None:
    if not np.isfinite(row.train_loss) or not np.isfinite(row.validation_loss):
        raise RunError(f"epoch {row.epoch}: the loss is {row.train_loss}; the training diverged. Try a smaller --lr")
    state.history.append(row)
    if state.best_epoch == 0 or row.validation_loss < state.history[state.best_epoch - 1].validation_loss:
        state.best_epoch = row.epoch
    state.stopped_early = bool(recipe.patience) and state.waited >= recipe.patience and row.epoch < recipe.epochs


def _seed_random_layers(keras: Any, model: Any, seed: int, epoch: int) -> None:
    """Draw the start of every dropout's and augmentation's generator from (seed, epoch, position).

    Not with keras.utils.set_random_seed: it makes TensorFlow optimize its graphs again, which costs seconds an epoch.
    """
    generators = [value for layer in layers_of(model) for value in vars(layer).values() if isinstance(value, keras.random.SeedGenerator)]
    for position, generator in enumerate({id(generator): generator for generator in generators}.values()):
        drawn = np.random.default_rng([seed, epoch, position]).integers(0, 2**31, size=2)
        generator.state.assign(np.array([drawn[0], 0], dtype=np.uint32))


def _rate(keras: Any, model: Any) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def _best_name(epoch: int) -> str:
    return f"best-{epoch:04d}.npz"


def _checkpoint(model: Any, folder: Path, state: FitState) -> None:
    """Store weights, optimizer and history in one file, replaced at once. The best weights carry their epoch in their name, so that a
    checkpoint always names weights that belong to it, whenever the process is killed."""
    arrays = {f"w{number}": variable.numpy() for number, variable in enumerate(model.weights)}
    if state.best_epoch == len(state.history):
        _write_npz(folder / _best_name(state.best_epoch), arrays)
    arrays |= {f"o{number}": np.asarray(variable) for number, variable in enumerate(model.optimizer.variables)}
    fields = vars(state) | {"history": [row.model_dump() for row in state.history]}
    _write_npz(folder / CHECKPOINT, arrays | {"state": np.array(json.dumps(fields))})
    for path in folder.glob("best-*.npz"):
        if path.name != _best_name(state.best_epoch):
            path.unlink()
    write_history(folder, tuple(state.history))


def _restore(model: Any, folder: Path, state: FitState) -> None:
    _load_npz(model.weights, folder / CHECKPOINT, "w")
    _load_npz(model.optimizer.variables, folder / CHECKPOINT, "o")
    write_history(folder, tuple(state.history))


def _write_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with new_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub confuses ** with allow_pickle


def _load_npz(variables: list[Any], path: Path, prefix: str) -> None:
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            for number, variable in enumerate(variables):
                variable.assign(stored[f"{prefix}{number}"])
    except _DAMAGED as error:
        raise RunError(f"{path} does not fit this run: {error}; start a new run") from error
