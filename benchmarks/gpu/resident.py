"""Training with the data set on the card: many steps are one compiled call of JAX, batches are gathered and varied there. Keras on JAX.

The network, its augmentation and its optimizer are cellclf's own; only the loop around them is here.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.depthwise import choose_depthwise
from cellclf.training.framework import require_keras, runs_on_cpu
from cellclf.training.network import Network, build_network
from cellclf.training.recipe import OPTIMIZER, Recipe

__all__ = ["Resident", "require_gpu", "state_of"]


def require_gpu(*, check: bool) -> None:
    """Stop where JAX has fallen back to the CPU, which it does with a warning only."""
    require_keras("jax")
    if runs_on_cpu() and not check:
        raise SystemExit("JAX sees no GPU and would run on the CPU: no measurement")


def state_of(network: Any, optimizer: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Trainable and other variables of the network and the optimizer's, as arrays of their own: a step gives its state's memory away."""
    import jax

    variables = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)
    trainable, other, own = ([jax.numpy.array(variable.value, copy=True) for variable in part] for part in variables)
    return trainable, other, own


@dataclass
class Resident:
    """A network in training, its images and labels on the device, and the compiled call."""

    network: Network
    optimizer: Any
    images: Any
    truth: Any
    state: tuple[list[Any], list[Any], list[Any]]
    steps: Any
    compile_s: float = 0.0

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        images: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.int64],
        *,
        classes: int,
        total_steps: int,
        weights: Path | None = None,
        gather: bool = True,
    ) -> "Resident":
        """Build it. gather=False: every step takes the first images as they lie, so what the gathering costs can be told."""
        keras = require_keras("jax")
        import jax

        choose_depthwise()
        keras.utils.set_random_seed(recipe.seed)
        keras.config.set_dtype_policy(recipe.precision)
        network = build_network(recipe, classes=classes, weights=weights, steps_per_epoch=max(1, len(truth) // recipe.batch_size))
        rate: Any = recipe.learning_rate
        if recipe.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=total_steps)
        optimizer = getattr(keras.optimizers, OPTIMIZER)(rate)
        optimizer.build(network.training.trainable_variables)
        state = state_of(network.training, optimizer)
        steps = _compiled(keras, network.training, optimizer, recipe.batch_size, gather=gather)
        return cls(network, optimizer, jax.device_put(images), jax.device_put(truth.astype(np.int32)), state, steps)

    def run(self, positions: npt.NDArray[np.int64]) -> tuple[float, float]:
        """Train on batches of rows [steps, batch]; returns mean loss and accuracy when all steps have ended. A new shape compiles first."""
        import jax

        self.state, loss, accuracy = self.steps(self.state, self.images, self.truth, jax.numpy.asarray(positions, dtype=np.int32))
        return float(loss), float(accuracy)

    def compile(self, positions: npt.NDArray[np.int64]) -> None:
        """Compile for this number of steps and keep the seconds; trains nothing."""
        import jax

        started = time.perf_counter()
        self.steps = self.steps.lower(self.state, self.images, self.truth, jax.numpy.asarray(positions, dtype=np.int32)).compile()
        self.compile_s += time.perf_counter() - started

    def gather_s(self, positions: npt.NDArray[np.int64]) -> float:
        """Seconds of bringing these batches together alone, each written to memory: the most the input can cost, as training fuses some of it."""
        import jax

        def gather(images: Any, truth: Any, positions: Any) -> Any:
            def step(total: Any, rows: Any) -> Any:
                batch, labels = jax.lax.optimization_barrier((images[rows], truth[rows]))
                return total + batch[:, 0, 0, 0].astype("int32").sum() + labels.sum(), None

            return jax.lax.scan(step, jax.numpy.int32(0), positions)[0]

        compiled = jax.jit(gather)
        rows = jax.numpy.asarray(positions, dtype=np.int32)
        compiled(self.images, self.truth, rows).block_until_ready()
        started = time.perf_counter()
        compiled(self.images, self.truth, rows).block_until_ready()
        return time.perf_counter() - started

    def write_back(self) -> None:
        """Give copies of the trained values to the Keras variables, so that the network can be evaluated and saved."""
        import jax

        variables = (self.network.training.trainable_variables, self.network.training.non_trainable_variables, self.optimizer.variables)
        for targets, values in zip(variables, self.state, strict=True):
            for target, value in zip(targets, values, strict=True):
                target.assign(jax.numpy.array(value, copy=True))


def _compiled(keras: Any, model: Any, optimizer: Any, batch: int, *, gather: bool) -> Any:
    """(state, images, truth, positions [steps, batch]) → (state, mean loss, mean accuracy); the old state's memory is used again."""
    import jax

    def loss_of(trainable: Any, other: Any, images: Any, truth: Any) -> Any:
        probabilities, other = model.stateless_call(trainable, other, images, training=True)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(truth, probabilities))
        hits = keras.ops.mean(keras.ops.cast(keras.ops.argmax(probabilities, axis=-1) == truth, "float32"))
        return loss, (other, hits)

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def steps(state: Any, images: Any, truth: Any, positions: Any) -> Any:
        def step(state: Any, rows: Any) -> Any:
            trainable, other, own = state
            taken = (images[rows], truth[rows]) if gather else (images[:batch], truth[:batch])
            (loss, (other, hits)), gradients = gradient_of(trainable, other, *taken)
            trainable, own = optimizer.stateless_apply(own, gradients, trainable)
            return (list(trainable), list(other), list(own)), (loss, hits)

        state, (losses, hits) = jax.lax.scan(step, state, positions)
        return state, losses.mean(), hits.mean()

    return jax.jit(steps, donate_argnums=0)
