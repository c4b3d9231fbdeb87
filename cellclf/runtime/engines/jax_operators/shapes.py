"""Operators that move numbers and compute none: order of axes, parts, shapes. Needs jax."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from cellclf.errors import ModelFileError
from cellclf.runtime.engines.jax_operators.values import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Given, Operator, Value, first, operand, refused, static
from cellclf.runtime.engines.jax_operators.ways import Ways

__all__ = ["SHAPES"]


def _transpose(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    value = operand(given, 0)
    order = tuple(attributes.get("perm", range(np.ndim(value.array))[::-1]))
    if order == TO_CHANNELS_FIRST and not value.channels_last:
        return Value(value.array, channels_last=True)
    if order == TO_CHANNELS_LAST and value.channels_last:
        return Value(value.array)
    return Value(jnp.transpose(first(value), order))


def _slice(_: dict[str, Any], given: Given, __: Ways) -> Value:
    x = first(operand(given, 0))
    starts, ends, axes, steps = (static(given, place) for place in range(1, 5))
    if starts is None or ends is None:
        raise ModelFileError("a slice lacks its bounds")
    parts = [slice(None)] * x.ndim
    for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis = place if axes is None else int(axes[place])
        step, size = 1 if steps is None else int(steps[place]), x.shape[axis]
        lowest, highest = (0, size) if step > 0 else (-1, size - 1)
        start, end = (bound + size if bound < 0 else bound for bound in (start, end))
        start, end = min(max(start, max(lowest, 0)), highest), min(max(end, lowest), highest)
        parts[axis] = slice(start, None if end < 0 else end, step)
    return Value(x[tuple(parts)])


def _squeeze(_: dict[str, Any], given: Given, __: Ways) -> Value:
    axes = static(given, 1)
    if axes is None:
        raise refused("a squeeze that does not name its axes, which the batch's could be among,")
    return Value(jnp.squeeze(first(operand(given, 0)), tuple(axes.tolist())))


def _reshape(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    x, wanted = first(operand(given, 0)), static(given, 1)
    if wanted is None or (attributes.get("allowzero", 0) and 0 in wanted):
        raise refused("this reshape")
    return Value(x.reshape([x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(wanted)]))


def _flatten(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    x, axis = first(operand(given, 0)), int(attributes.get("axis", 1))
    return Value(x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1))


def _concat(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    values = [operand(given, place) for place in range(len(given))]
    axis = int(attributes["axis"])
    if axis == 1 and all(value.channels_last for value in values):
        return Value(jnp.concatenate([value.array for value in values], axis=-1), channels_last=True)
    return Value(jnp.concatenate([first(value) for value in values], axis=axis))


SHAPES: Mapping[str, Operator] = {
    "Concat": Operator(_concat, frozenset({"axis"})),
    "Flatten": Operator(_flatten, frozenset({"axis"})),
    "Reshape": Operator(_reshape, frozenset({"allowzero"})),
    "Slice": Operator(_slice),
    "Squeeze": Operator(_squeeze),
    "Transpose": Operator(_transpose, frozenset({"perm"})),
}
"""Part of OPERATORS."""
