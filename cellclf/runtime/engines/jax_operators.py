"""OPERATORS: one row = one ONNX operator computed by JAX, channels last wherever it can be, so that XLA can join what follows a convolution to it.

Source of their meaning: the ONNX operator specification, opsets 13 to 17. What could mean something else is refused. Needs jax.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cellclf.errors import ModelFileError

__all__ = ["OPERATORS", "TO_CHANNELS_LAST", "Array", "Operator", "Value", "Ways", "first", "refused"]

TO_CHANNELS_LAST = (0, 2, 3, 1)
_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_KNOWN = {"pointwise": ("conv", "dot"), "strided": ("grouped", "shifted"), "graph": ("usual", "whole")}

Array = Any
"""A jax array while the function is traced, or a NumPy array where nothing depends on the images."""


@dataclass(frozen=True)
class Ways:
    """How a network is computed; the numbers differ by rounding only.

    pointwise: 1 × 1 convolutions as convolutions or as matrix products. strided: depthwise convolutions with a stride as grouped convolutions, or as
    the sum of the shifted images. graph: what is replayed as a CUDA graph, XLA's usual choice or the convolutions too.
    """

    pointwise: str = "conv"
    strided: str = "grouped"
    graph: str = "usual"

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Ways":
        """From a provider's options; raises ModelFileError for a way that there is not."""
        ways = cls(**{name: options[name] for name in _KNOWN if name in options})
        for name, known in _KNOWN.items():
            if getattr(ways, name) not in known:
                raise ModelFileError(f"there is no way {name}={getattr(ways, name)}: {', '.join(known)}")
        return ways


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
    return jnp.transpose(value.array, _TO_CHANNELS_FIRST) if value.channels_last else value.array


def _last(value: Value, *, broadcast: bool = False) -> Array:
    """The array [batch, H, W, C] of the graph's [batch, C, H, W]. broadcast: one of fewer dimensions gets those that ONNX would give it."""
    if value.channels_last:
        return value.array
    array = value.array
    if broadcast:
        array = array.reshape((1,) * (4 - np.ndim(array)) + tuple(np.shape(array)))
    if np.ndim(array) != 4:
        raise refused(f"an image operator on {np.ndim(array)} dimensions")
    return array.transpose(TO_CHANNELS_LAST)


_Given = list[Value | None]
_Compute = Callable[[dict[str, Any], _Given, Ways], Value]


@dataclass(frozen=True)
class Operator:
    """How an operator is computed, and the attributes that this knows."""

    compute: _Compute
    attributes: frozenset[str] = frozenset()


def _operand(given: _Given, place: int) -> Value:
    value = given[place] if place < len(given) else None
    if value is None:
        raise ModelFileError("a node lacks an input that its operator must have")
    return value


def _static(given: _Given, place: int) -> np.ndarray[Any, Any] | None:
    """An optional input that must be known before the images are."""
    value = given[place] if place < len(given) else None
    if value is None:
        return None
    if not isinstance(value.array, np.ndarray):
        raise refused("a shape or a bound that is computed")
    return value.array


def _pointwise(operation: Callable[..., Array]) -> Operator:
    """One or two operands, element by element, floats."""

    def apply(_: dict[str, Any], given: _Given, __: Ways) -> Value:
        values = [value for value in given if value is not None]
        if wrong := sorted({str(value.array.dtype) for value in values} - {"float16", "float32"}):
            raise refused(f"arithmetic of {', '.join(wrong)}")
        if any(value.channels_last for value in values) and all(value.channels_last or np.ndim(value.array) <= 4 for value in values):
            return Value(operation(*(_last(value, broadcast=True) for value in values)), channels_last=True)
        return Value(operation(*(first(value) for value in values)))

    return Operator(apply)


def _cast(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    import onnx

    value = _operand(given, 0)
    kind = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    if str(kind) not in ("float16", "float32"):
        raise refused(f"a cast to {kind}")
    return Value(value.array.astype(kind), value.channels_last)


def _transpose(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    value = _operand(given, 0)
    order = tuple(attributes.get("perm", range(np.ndim(value.array))[::-1]))
    if order == _TO_CHANNELS_FIRST and not value.channels_last:
        return Value(value.array, channels_last=True)
    if order == TO_CHANNELS_LAST and value.channels_last:
        return Value(value.array)
    return Value(jnp.transpose(first(value), order))


def _clip(_: dict[str, Any], given: _Given, __: Ways) -> Value:
    value = _operand(given, 0)
    low, high = _static(given, 1), _static(given, 2)
    kind = value.array.dtype
    bounds = jnp.finfo(kind)
    low = np.asarray(bounds.min if low is None else low, dtype=kind)
    high = np.asarray(bounds.max if high is None else high, dtype=kind)
    return Value(lax.clamp(low, value.array, high), value.channels_last)


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


def _conv(attributes: dict[str, Any], given: _Given, ways: Ways) -> Value:
    images, weight = _operand(given, 0), _operand(given, 1).array  # [out, h, w, in]
    if weight.ndim != 4:
        raise refused("a convolution that is not over rows and columns")
    x = _last(images)
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


def _window(attributes: dict[str, Any], given: _Given) -> tuple[Array, tuple[int, ...], tuple[int, ...], list[Any]]:
    """What both pools need: images, window, strides and padding, of four axes each."""
    x = _last(_operand(given, 0))
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


def _max_pool(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    x, window, strides, pads = _window(attributes, given)
    return Value(lax.reduce_window(x, np.asarray(-np.inf, dtype=x.dtype), lax.max, window, strides, pads), channels_last=True)


def _average_pool(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    x, window, strides, pads = _window(attributes, given)
    zero = np.float32(0)
    total = lax.reduce_window(x.astype(jnp.float32), zero, lax.add, window, strides, pads)
    if attributes.get("count_include_pad", 0):
        count: Array = np.float32(window[1] * window[2])
    else:
        ones = np.ones((1, *x.shape[1:3], 1), dtype=np.float32)
        count = lax.reduce_window(ones, zero, lax.add, window, strides, pads)
    return Value((total / count).astype(x.dtype), channels_last=True)


def _global_average_pool(_: dict[str, Any], given: _Given, __: Ways) -> Value:
    x = _last(_operand(given, 0))
    return Value(jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype), channels_last=True)


def _reduce_mean(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    x = first(_operand(given, 0))
    axes = tuple(int(axis) for axis in attributes["axes"]) if "axes" in attributes else None
    mean = jnp.mean(x, axis=axes, keepdims=bool(attributes.get("keepdims", 1)), dtype=jnp.float32)
    return Value(mean.astype(x.dtype))


def _slice(_: dict[str, Any], given: _Given, __: Ways) -> Value:
    x = first(_operand(given, 0))
    starts, ends, axes, steps = (_static(given, place) for place in range(1, 5))
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


def _squeeze(_: dict[str, Any], given: _Given, __: Ways) -> Value:
    axes = _static(given, 1)
    if axes is None:
        raise refused("a squeeze that does not name its axes, which the batch's could be among,")
    return Value(jnp.squeeze(first(_operand(given, 0)), tuple(axes.tolist())))


def _reshape(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    x, wanted = first(_operand(given, 0)), _static(given, 1)
    if wanted is None or (attributes.get("allowzero", 0) and 0 in wanted):
        raise refused("this reshape")
    return Value(x.reshape([x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(wanted)]))


def _flatten(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    x, axis = first(_operand(given, 0)), int(attributes.get("axis", 1))
    return Value(x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1))


def _concat(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    values = [_operand(given, place) for place in range(len(given))]
    axis = int(attributes["axis"])
    if axis == 1 and all(value.channels_last for value in values):
        return Value(jnp.concatenate([value.array for value in values], axis=-1), channels_last=True)
    return Value(jnp.concatenate([first(value) for value in values], axis=axis))


def _matmul(_: dict[str, Any], given: _Given, __: Ways) -> Value:
    left, right = first(_operand(given, 0)), first(_operand(given, 1))
    return Value(jnp.matmul(left, right, precision=lax.Precision.HIGHEST))


def _gemm(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    left, right = first(_operand(given, 0)), first(_operand(given, 1))
    left, right = left.T if attributes.get("transA") else left, right.T if attributes.get("transB") else right
    y = attributes.get("alpha", 1.0) * jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
    bias = given[2] if len(given) > 2 else None
    return Value((y if bias is None else y + attributes.get("beta", 1.0) * first(bias)).astype(left.dtype))


def _softmax(attributes: dict[str, Any], given: _Given, _: Ways) -> Value:
    return Value(jax.nn.softmax(first(_operand(given, 0)), axis=int(attributes.get("axis", -1))))


_WINDOW = frozenset({"auto_pad", "dilations", "kernel_shape", "pads", "strides"})

OPERATORS: Mapping[str, Operator] = {
    "Add": _pointwise(lambda left, right: left + right),
    "AveragePool": Operator(_average_pool, _WINDOW | {"ceil_mode", "count_include_pad"}),
    "Cast": Operator(_cast, frozenset({"to"})),
    "Clip": Operator(_clip),
    "Concat": Operator(_concat, frozenset({"axis"})),
    "Conv": Operator(_conv, _WINDOW | {"group"}),
    "Div": _pointwise(lambda left, right: left / right),
    "Flatten": Operator(_flatten, frozenset({"axis"})),
    "Gemm": Operator(_gemm, frozenset({"alpha", "beta", "transA", "transB"})),
    "GlobalAveragePool": Operator(_global_average_pool),
    "Identity": _pointwise(lambda value: value),
    "MatMul": Operator(_matmul),
    "MaxPool": Operator(_max_pool, _WINDOW | {"ceil_mode", "storage_order"}),
    "Mul": _pointwise(lambda left, right: left * right),
    "ReduceMean": Operator(_reduce_mean, frozenset({"axes", "keepdims"})),
    "Relu": _pointwise(lambda value: jnp.maximum(value, np.asarray(0, dtype=value.dtype))),
    "Reshape": Operator(_reshape, frozenset({"allowzero"})),
    "Sigmoid": _pointwise(jax.nn.sigmoid),
    "Slice": Operator(_slice),
    "Softmax": Operator(_softmax, frozenset({"axis"})),
    "Squeeze": Operator(_squeeze),
    "Sub": _pointwise(lambda left, right: left - right),
    "Transpose": Operator(_transpose, frozenset({"perm"})),
}
