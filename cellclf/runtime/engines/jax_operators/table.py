"""OPERATORS: one row = one ONNX operator, by its name; the rows are beside what computes them. Needs jax."""

from collections.abc import Mapping

from cellclf.runtime.engines.jax_operators.arithmetic import ARITHMETIC
from cellclf.runtime.engines.jax_operators.shapes import SHAPES
from cellclf.runtime.engines.jax_operators.values import Operator
from cellclf.runtime.engines.jax_operators.windows import WINDOWS

__all__ = ["OPERATORS"]

OPERATORS: Mapping[str, Operator] = {**ARITHMETIC, **SHAPES, **WINDOWS}
