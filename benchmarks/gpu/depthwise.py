"""Two ways to a depthwise convolution for Keras on JAX: XLA's grouped convolution, or a sum of shifted products that XLA joins into one kernel.

`python -m benchmarks.gpu.depthwise` measures both, forwards and backwards, and says which is faster; the study then takes that one.
"""

import argparse
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu.record import arguments, save, say
from benchmarks.gpu.timing import rate
from benchmarks.gpu.turns import add_turn_option, wait_for_turn

__all__ = ["choose_depthwise", "depthwise_way", "shifted_depthwise"]

Way = Literal["grouped", "shifted"]
VARIABLE = "CELLCLF_GPU_DEPTHWISE"
SHAPES = ((128, 112, 64, 1), (128, 19, 728, 1), (128, 56, 128, 2))
"""(batch, pixels a side, channels, stride) as MobileNet and Xception have them."""


def depthwise_way() -> Way:
    """What $CELLCLF_GPU_DEPTHWISE says; grouped, Keras' own, without it."""
    way = os.environ.get(VARIABLE, "grouped")
    if way not in ("grouped", "shifted"):
        raise SystemExit(f"${VARIABLE} is {way!r}; grouped and shifted are known")
    return way  # type: ignore[return-value]


def choose_depthwise() -> None:
    """Let Keras' JAX backend compute depthwise convolutions the chosen way, in this process."""
    if depthwise_way() == "grouped":
        return
    from keras.src.backend.jax import nn

    if getattr(nn.depthwise_conv, "way", None) == "shifted":
        return
    own = nn.depthwise_conv

    def depthwise_conv(inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1) -> Any:
        plain = kernel.ndim == 4 and kernel.shape[-1] == 1 and data_format in (None, "channels_last") and _pair(dilation_rate) == (1, 1)
        if not plain or _pair(strides) == (1, 1):  # with a stride of 1 the grouped one is 2.5 times faster, with 2 it is 5 times slower
            return own(inputs, kernel, strides, padding, data_format, dilation_rate)
        return shifted_depthwise(inputs, kernel, strides=_pair(strides), padding=padding)

    depthwise_conv.way = "shifted"  # type: ignore[attr-defined]
    nn.depthwise_conv = depthwise_conv


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def shifted_depthwise(inputs: Any, kernel: Any, *, strides: tuple[int, int], padding: str) -> Any:
    """inputs [batch, H, W, C], kernel [h, w, C, 1] → [batch, H', W', C] in the inputs' type, added up in float32; padding as Keras has it."""
    import jax

    height, width = kernel.shape[:2]
    if padding.lower() == "same":
        pads = jax.lax.padtype_to_pads(inputs.shape[1:3], (height, width), strides, "SAME")
        inputs = jax.numpy.pad(inputs, ((0, 0), *pads, (0, 0)))
    out = [(size - extent) // stride + 1 for size, extent, stride in zip(inputs.shape[1:3], (height, width), strides, strict=True)]
    total: Any = 0.0
    for row in range(height):
        for column in range(width):
            limits = (inputs.shape[0], row + (out[0] - 1) * strides[0] + 1, column + (out[1] - 1) * strides[1] + 1, inputs.shape[3])
            part = jax.lax.slice(inputs, (0, row, column, 0), limits, (1, *strides, 1))
            total = total + part.astype("float32") * kernel[row, column, :, 0].astype("float32")
    return total.astype(inputs.dtype)


def _grouped(inputs: Any, kernel: Any, *, strides: tuple[int, int], padding: str) -> Any:
    import jax

    weights = jax.numpy.reshape(kernel, (*kernel.shape[:2], 1, kernel.shape[2]))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(inputs, weights, strides, padding.upper(), dimension_numbers=dimensions, feature_group_count=inputs.shape[-1])


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds forwards and backwards of a block as the networks have it: scale, depthwise convolution, clip."""
    import jax

    ways: dict[Way, Callable[..., Any]] = {"grouped": _grouped, "shifted": shifted_depthwise}
    prepared = []
    for batch, side, channels, stride in ((2, 8, 4, 1),) if options.check else SHAPES:
        keys = jax.random.split(jax.random.key(0), 2)
        inputs = jax.random.normal(keys[0], (batch, side, side, channels), "bfloat16")
        kernel = jax.random.normal(keys[1], (3, 3, channels, 1), "bfloat16")
        for way, function in ways.items():
            step = functools.partial(_loss, function=function, strides=(stride, stride))
            compiled = jax.jit(jax.value_and_grad(step, argnums=(0, 1))).lower(inputs, kernel).compile()
            prepared.append((way, (batch, side, channels, stride), compiled, inputs, kernel))
    wait_for_turn(options.turn)
    rows = []
    for way, shape, compiled, inputs, kernel in prepared:
        found = rate(_repeated(compiled, inputs, kernel), items=1, window_s=0.005 if options.check else 0.1, most=6)
        value, (slope, _) = compiled(inputs, kernel)
        size = float(jax.numpy.abs(slope.astype("float32")).sum())
        rows.append({"way": way, "shape": shape, "ms": 1000 / found.per_second, "loss": float(value), "slope": size, "measured": found.record()})
    return rows


def _loss(inputs: Any, kernel: Any, *, function: Callable[..., Any], strides: tuple[int, int]) -> Any:
    import jax

    values = function(inputs * 1.5, kernel, strides=strides, padding="same")
    return jax.numpy.clip(values.astype("float32"), 0, 6).mean()


def _repeated(compiled: Any, inputs: Any, kernel: Any) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            found = compiled(inputs, kernel)
        found[0].block_until_ready()

    return run


def faster(rows: list[dict[str, Any]]) -> Way:
    """The way of the smaller sum over all shapes; both must give the same numbers, else Keras' own."""
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        if any(abs(one[name] - other[name]) > 0.02 * abs(one[name]) for name in ("loss", "slope")):
            return "grouped"
    sums = {way: sum(row["ms"] for row in rows if row["way"] == way) for way in ("grouped", "shifted")}
    return "shifted" if sums["shifted"] < sums["grouped"] else "grouped"


def main() -> None:
    """Measure, write depthwise.json, and put the faster way's name in OUT/depthwise.txt."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--result", type=Path, help="write the rows here too")
    add_turn_option(parser)
    options = parser.parse_args()
    rows = measure(options)
    for row in rows:
        say(json.dumps({name: row[name] for name in ("way", "shape", "ms", "loss", "slope")}))
    save("depthwise", rows, options)
    (options.out / "depthwise.txt").write_text(faster(rows), encoding="utf-8")
    say(f"faster: {faster(rows)}")


if __name__ == "__main__":
    main()
