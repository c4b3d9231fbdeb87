"""Operators that compute numbers: element by element, mean, matrix product, softmax. Needs jax."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cellclf.runtime.engines.jax_operators.values import Array, Given, Operator, Value, first, last, operand, refused, static
from cellclf.runtime.engines.jax_operators.ways import Ways

__all__ = ["ARITHMETIC"]


def _pointwise(operation: Callable[..., Array]) -> Operator:
    """One or two operands, element by element, floats."""

    def apply(_: dict[str, Any], given: Given, __: Ways) -> Value:
        values = [value for value in given if value is not None]
        if wrong := sorted({str(value.array.dtype) for value in values} - {"float16", "float32"}):
            raise refused(f"arithmetic of {', '.join(wrong)}")
        if any(value.channels_last for value in values) and all(value.channels_last or np.ndim(value.array) <= 4 for value in values):
            return Value(operation(*(last(value, broadcast=True) for value in values)), channels_last=True)
        return Value(operation(*(first(value) for value in values)))

    return Operator(apply)


def _cast(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    import onnx

    value = operand(given, 0)
    kind = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    if str(kind) not in ("float16", "float32"):
        raise refused(f"a cast to {kind}")
    return Value(value.array.astype(kind), value.channels_last)


def _clip(_: dict[str, Any], given: Given, __: Ways) -> Value:
    value = operand(given, 0)
    low, high = static(given, 1), static(given, 2)
    kind = value.array.dtype
    bounds = jnp.finfo(kind)
    low = np.asarray(bounds.min if low is None else low, dtype=kind)
    high = np.asarray(bounds.max if high is None else high, dtype=kind)
    return Value(lax.clamp(low, value.array, high), value.channels_last)


def _reduce_mean(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    x = first(operand(given, 0))
    axes = tuple(int(axis) for axis in attributes["axes"]) if "axes" in attributes else None
    mean = jnp.mean(x, axis=axes, keepdims=bool(attributes.get("keepdims", 1)), dtype=jnp.float32)
    return Value(mean.astype(x.dtype))


def _matmul(_: dict[str, Any], given: Given, __: Ways) -> Value:
    left, right = first(operand(given, 0)), first(operand(given, 1))
    return Value(jnp.matmul(left, right, precision=lax.Precision.HIGHEST))


def _gemm(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    left, right = first(operand(given, 0)), first(operand(given, 1))
    left, right = left.T if attributes.get("transA") else left, right.T if attributes.get("transB") else right
    y = attributes.get("alpha", 1.0) * jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
    bias = given[2] if len(given) > 2 else None
    return Value((y if bias is None else y + attributes.get("beta", 1.0) * first(bias)).astype(left.dtype))


def _softmax(attributes: dict[str, Any], given: Given, _: Ways) -> Value:
    return Value(jax.nn.softmax(first(operand(given, 0)), axis=int(attributes.get("axis", -1))))


ARITHMETIC: Mapping[str, Operator] = {
    "Add": _pointwise(lambda left, right: left + right),
    "Cast": Operator(_cast, frozenset({"to"})),
    "Clip": Operator(_clip),
    "Div": _pointwise(lambda left, right: left / right),
    "Gemm": Operator(_gemm, frozenset({"alpha", "beta", "transA", "transB"})),
    "Identity": _pointwise(lambda value: value),
    "MatMul": Operator(_matmul),
    "Mul": _pointwise(lambda left, right: left * right),
    "ReduceMean": Operator(_reduce_mean, frozenset({"axes", "keepdims"})),
    "Relu": _pointwise(lambda value: jnp.maximum(value, np.asarray(0, dtype=value.dtype))),
    "Sigmoid": _pointwise(jax.nn.sigmoid),
    "Softmax": Operator(_softmax, frozenset({"axis"})),
    "Sub": _pointwise(lambda left, right: left - right),
}
"""Part of OPERATORS."""
