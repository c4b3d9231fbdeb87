"""The epochs: batches in an order drawn from (seed, epoch), validation, early stopping, and a checkpoint after each epoch.

Everything random in an epoch is drawn anew from (seed, epoch), so a resumed run goes on as if it had never stopped.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.errors import RunError
from cellclf.evaluation.scores import cross_entropy
from cellclf.training.checkpoint import FitState, restore_best_weights, restore_checkpoint, store_checkpoint
from cellclf.training.framework import backend, require_keras, runs_on_cpu
from cellclf.training.imbalance import adjusted_loss, class_weights
from cellclf.training.network import layers_of
from cellclf.training.progress import Progress
from cellclf.training.recipe import OPTIMIZER, Recipe
from cellclf.training.run import Epoch

__all__ = ["Examples", "compile_network", "epoch_order", "fed", "fit", "predict", "prepare_backend", "repeated", "steps_per_epoch"]

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Examples:
    """Inputs [n, …] (possibly memory-mapped), the rows of them that belong to the set, and the class number of each row."""

    inputs: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches an epoch; the last is filled up from the start of the epoch's order, so that all have one size."""
    return -(-images // min(batch_size, images))


def epoch_order(images: int, batch_size: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Positions [steps, batch] of one epoch: a permutation drawn from (seed, epoch), filled up to whole batches from its own start."""
    size = min(batch_size, images)
    order = np.random.default_rng([seed, epoch]).permutation(images)
    steps = steps_per_epoch(images, batch_size)
    return np.resize(order, steps * size).reshape(steps, size)


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
    compile_network(model, recipe, steps=steps, prior=prior)
    if state.history:
        restore_checkpoint(model, folder, state)
    watcher = _watcher(keras, progress, min(recipe.batch_size, len(train.rows)))
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
        store_checkpoint(model, folder, state)
        progress.epoch_ended(row, best=state.best_epoch == epoch, seconds_left=seconds * (recipe.epochs - epoch))
    if recipe.patience:
        restore_best_weights(model, folder, state)
    return state


def prepare_backend(recipe: Recipe) -> None:
    """Forget other networks; seed, precision and determinism as the recipe has them, before its network is built."""
    keras = require_keras()
    keras.utils.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    if recipe.deterministic and backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


def compile_network(model: Any, recipe: Recipe, *, steps: int, prior: npt.NDArray[np.float32] | None = None) -> None:
    """Optimizer, schedule over `steps` an epoch, and loss, which a prior [classes] shifts (the recipe's logit_adjustment)."""
    keras = require_keras()
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=steps * recipe.epochs)
    model.compile(
        optimizer=getattr(keras.optimizers, OPTIMIZER)(rate),
        loss=keras.losses.SparseCategoricalCrossentropy() if prior is None else adjusted_loss(keras, prior),
        metrics=["accuracy"],
        # XLA makes TensorFlow's convolutions several times slower on a CPU, and lacks its kernel for warped images: "auto" asks the layers.
        # JAX cannot do without it.
        jit_compile=backend() == "jax" or (False if runs_on_cpu() else "auto"),
    )
    model.optimizer.build(model.trainable_variables)


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
    return _untuned(tensorflow.data.Dataset.from_generator(batches, output_signature=signature).prefetch(_BATCHES_AHEAD))


def repeated(*batch: npt.NDArray[Any]) -> Any:
    """The same batch again and again from memory, as `fit` takes it without waiting for input or at an end."""
    if backend() != "tensorflow":
        return itertools.repeat(batch)
    import tensorflow

    return _untuned(tensorflow.data.Dataset.from_tensor_slices(batch).batch(len(batch[0])).cache().repeat())


def _untuned(dataset: Any) -> Any:
    import tensorflow

    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _watcher(keras: Any, progress: Progress, batch_images: int) -> Any:
    """A Keras callback that passes batches on to `progress` and measures the first step apart from the others."""

    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def begin(self) -> None:
            self.started = time.perf_counter()
            self.first_step_s = self.images_per_second = 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            now = time.perf_counter()
            if batch == 0:
                self.first_step_s, self.after_first = now - self.started, now
                self.images_per_second = batch_images / self.first_step_s  # all there is where an epoch has one step
            else:
                self.images_per_second = batch * batch_images / (now - self.after_first)
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
