"""What an operator is given and gives: arrays, channels last or as the graph has them, and the error for what is not known. Needs jax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from cellclf.errors import ModelFileError
from cellclf.runtime.engines.jax_operators.ways import Ways

__all__ = ["TO_CHANNELS_FIRST", "TO_CHANNELS_LAST", "Array", "Given", "Operator", "Value", "first", "last", "operand", "refused", "static"]

TO_CHANNELS_LAST = (0, 2, 3, 1)
TO_CHANNELS_FIRST = (0, 3, 1, 2)

Array = Any
"""A jax array while the function is traced, or a NumPy array where nothing depends on the images."""


@dataclass(frozen=True)
class Value:
    """channels_last: the array holds [batch, H, W, C] of what the graph calls [batch, C, H, W]."""

    array: Array
    channels_last: bool = False


def refused(what: str) -> ModelFileError:
    """The error for what has no row, or a row that could mean something else."""
    return ModelFileError(f"XLA has no way to compute {what} here; use --device cuda")


def first(value: Value) -> Array:
    """The array in the graph's own order."""
    return jnp.transpose(value.array, TO_CHANNELS_FIRST) if value.channels_last else value.array


def last(value: Value, *, broadcast: bool = False) -> Array:
    """The array [batch, H, W, C] of the graph's [batch, C, H, W]. broadcast: one of fewer dimensions gets those that ONNX would give it."""
    if value.channels_last:
        return value.array
    array = value.array
    if broadcast:
        array = array.reshape((1,) * (4 - np.ndim(array)) + tuple(np.shape(array)))
    if np.ndim(array) != 4:
        raise refused(f"an image operator on {np.ndim(array)} dimensions")
    return array.transpose(TO_CHANNELS_LAST)


Given = list[Value | None]
"""The inputs of a node in order; None where an optional one is left out."""

_Compute = Callable[[dict[str, Any], Given, Ways], Value]


@dataclass(frozen=True)
class Operator:
    """How an operator is computed, and the attributes that this knows."""

    compute: _Compute
    attributes: frozenset[str] = frozenset()


def operand(given: Given, place: int) -> Value:
    """An input that the operator must have; raises ModelFileError where the node lacks it."""
    value = given[place] if place < len(given) else None
    if value is None:
        raise ModelFileError("a node lacks an input that its operator must have")
    return value


def static(given: Given, place: int) -> np.ndarray[Any, Any] | None:
    """An optional input that must be known before the images are."""
    value = given[place] if place < len(given) else None
    if value is None:
        return None
    if not isinstance(value.array, np.ndarray):
        raise refused("a shape or a bound that is computed")
    return value.array
