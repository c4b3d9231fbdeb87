"""Operators over rows and columns of images: convolutions and pools. Needs jax."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from cellclf.errors import ModelFileError
from cellclf.runtime.engines.jax_operators.values import Array, Given, Operator, Value, last, operand, refused
from cellclf.runtime.engines.jax_operators.ways import Ways

__all__ = ["WINDOWS"]


def _padding(attributes: dict[str, Any], size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[Any]:
    """Rows and columns to add (before, after) for each of the two axes."""
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic in ("NOTSET", "VALID"):
        pads = attributes.get("pads", (0, 0, 0, 0)) if automatic == "NOTSET" else (0, 0, 0, 0)
        return [(int(pads[axis]), int(pads[axis + 2])) for axis in range(2)]
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelFileError(f"auto_pad {automatic!r} is unknown")
    found = []
    for axis in range(2):
        outputs = -(-size[axis] // strides[axis])
        whole = max(0, (outputs - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - size[axis])
        less, more = whole // 2, whole - whole // 2
        found.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return found


def _pair(attributes: dict[str, Any], name: str) -> tuple[int, int]:
    first, second = attributes.get(name, (1, 1))
    return int(first), int(second)


def _conv(attributes: dict[str, Any], given: Given, ways: Ways) -> Value:
    images, weight = operand(given, 0), operand(given, 1).array  # [out, h, w, in]
    if weight.ndim != 4:
        raise refused("a convolution that is not over rows and columns")
    x = last(images)
    strides, dilations, group = _pair(attributes, "strides"), _pair(attributes, "dilations"), int(attributes.get("group", 1))
    kernel = (int(weight.shape[1]), int(weight.shape[2]))
    pads = _padding(attributes, x.shape[1:3], kernel, strides, dilations)
    bare = pads == [(0, 0), (0, 0)]
    if ways.pointwise == "dot" and kernel == (1, 1) and group == 1 and bare:
        thinned = x[:, :: strides[0], :: strides[1], :]
        rows = thinned.reshape(-1, thinned.shape[-1])
        y = lax.dot_general(rows, weight.reshape(weight.shape[0], -1), (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
        y = y.reshape(*thinned.shape[:3], weight.shape[0])
    elif ways.strided == "shifted" and strides != (1, 1) and group == x.shape[-1] == weight.shape[0] and dilations == (1, 1):
        y = _depthwise(x, weight, strides, pads)
    else:
        y = lax.conv_general_dilated(
            x,
            weight,
            strides,
            pads,
            rhs_dilation=dilations,
            dimension_numbers=("NHWC", "OHWI", "NHWC"),
            feature_group_count=group,
            precision=lax.Precision.HIGHEST,
        )
    bias = given[2] if len(given) > 2 else None
    return Value(y if bias is None else y + bias.array, channels_last=True)


def _depthwise(x: Array, weight: Array, strides: tuple[int, int], pads: Sequence[tuple[int, int]]) -> Array:
    """A depthwise convolution as a sum over its window, in float32, which XLA joins with its neighbours to one kernel."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = ((padded.shape[1 + axis] - weight.shape[1 + axis]) // strides[axis] + 1 for axis in range(2))
    total: Array = 0.0
    for row in range(weight.shape[1]):
        for column in range(weight.shape[2]):
            bottom, right = row + (height - 1) * strides[0] + 1, column + (width - 1) * strides[1] + 1
            part = padded[:, row : bottom : strides[0], column : right : strides[1], :]
            total = total + part.astype(jnp.float32) * weight[:, row, column, 0].astype(jnp.float32)
    return total.astype(x.dtype)


def _window(attributes: dict[str, Any], given: Given) -> tuple[Array, tuple[int, ...], tuple[int, ...], list[Any]]:
    """What both pools need: images, window, strides and padding, of four axes each."""
    x = last(operand(given, 0))
    if (
        attributes.get("ceil_mode", 0)
        or attributes.get("storage_order", 0)
        or x.dtype not in (np.float16, np.float32)
        or tuple(attributes.get("dilations", (1, 1))) != (1, 1)
    ):
        raise refused("this pool")
    kernel, strides = _pair(attributes, "kernel_shape"), _pair(attributes, "strides")
    pads = _padding(attributes, x.shape[1:3], kernel, strides, (1, 1))
    return x, (1, *kernel, 1), (1, *strides, 1), [(0, 0), *pads, (0, 0)]


def _max_pool(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    x, window, strides, pads = _window(attributes, given)
    return Value(lax.reduce_window(x, np.asarray(-np.inf, dtype=x.dtype), lax.max, window, strides, pads), channels_last=True)


def _average_pool(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    x, window, strides, pads = _window(attributes, given)
    zero = np.float32(0)
    total = lax.reduce_window(x.astype(jnp.float32), zero, lax.add, window, strides, pads)
    if attributes.get("count_include_pad", 0):
        count: Array = np.float32(window[1] * window[2])
    else:
        ones = np.ones((1, *x.shape[1:3], 1), dtype=np.float32)
        count = lax.reduce_window(ones, zero, lax.add, window, strides, pads)
    return Value((total / count).astype(x.dtype), channels_last=True)


def _global_average_pool(_: dict[str, Any], given: Given, __: Ways) -> Value:
    x = last(operand(given, 0))
    return Value(jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype), channels_last=True)


_WINDOW = frozenset({"auto_pad", "dilations", "kernel_shape", "pads", "strides"})

WINDOWS: Mapping[str, Operator] = {
    "AveragePool": Operator(_average_pool, _WINDOW | {"ceil_mode", "count_include_pad"}),
    "Conv": Operator(_conv, _WINDOW | {"group"}),
    "GlobalAveragePool": Operator(_global_average_pool),
    "MaxPool": Operator(_max_pool, _WINDOW | {"ceil_mode", "storage_order"}),
}
"""Part of OPERATORS."""
