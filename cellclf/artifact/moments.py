"""What convolutions see, measured on images in ONNX Runtime: mean and covariance of what their weights are multiplied with; their work; answers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.convert import ORT_QUIET
from cellclf.artifact.rounding import Floats
from cellclf.data.decoding import Pixels

__all__ = ["Convolution", "Moments", "batches", "convolutions_of", "moments_of", "multiply_adds_of", "probabilities_of"]

_BATCH = 8
_PLACES = 16_384
"""Places a convolution is looked at, over all images: 3.6 for each of the 4,608 weights a channel of the widest backbones."""
_LARGEST = 4_608
"""Most weights a channel for which a covariance is kept (85 MB): 3 × 3 × 512 inputs."""


@dataclass(frozen=True)
class Convolution:
    """A Conv node with constant weights [channels, inputs of the group, height, width], and its attributes with the standard's defaults."""

    node: Any
    weights: Floats
    bias: Floats
    strides: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    pads: tuple[int, int, int, int]
    auto_pad: str

    def patches(self, images: Floats, places: int, generator: np.random.Generator) -> Floats:
        """What `places` output positions see of images [n, C, H, W]: [groups, n · places, K], K as in weights.reshape(channels, K)."""
        height, width = self.weights.shape[2:]
        padded = np.pad(images, ((0, 0), (0, 0), *self._padding(images.shape[2], images.shape[3])))
        rows, columns = self._positions(padded.shape[2], padded.shape[3])
        chosen = generator.choice(len(rows) * len(columns), min(places, len(rows) * len(columns)), replace=False)
        down = rows[chosen // len(columns)][:, None, None] + np.arange(height)[:, None] * self.dilations[0]
        across = columns[chosen % len(columns)][:, None, None] + np.arange(width) * self.dilations[1]
        seen = padded[:, :, down, across].reshape(len(images), self.groups, -1, len(chosen), height * width)
        return np.ascontiguousarray(seen.transpose(1, 0, 3, 2, 4)).reshape(self.groups, len(images) * len(chosen), -1)

    def multiply_adds(self, height: int, width: int) -> int:
        """For one image [C, height, width]."""
        (above, below), (left, right) = self._padding(height, width)
        rows, columns = self._positions(height + above + below, width + left + right)
        return len(rows) * len(columns) * self.weights.size

    def _positions(self, height: int, width: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Where its window starts, down and across an image that is padded already."""
        reach = [(size - 1) * dilation for size, dilation in zip(self.weights.shape[2:], self.dilations, strict=True)]
        return np.arange(0, height - reach[0], self.strides[0]), np.arange(0, width - reach[1], self.strides[1])

    def _padding(self, *sizes: int) -> Iterator[tuple[int, int]]:
        """Zeros before and after each axis; of an odd number SAME_UPPER has one more after, SAME_LOWER one more before."""
        for axis, size in enumerate(sizes):
            if not self.auto_pad.startswith("SAME"):
                yield (self.pads[axis], self.pads[axis + 2]) if self.auto_pad == "NOTSET" else (0, 0)
                continue
            reach = (self.weights.shape[axis + 2] - 1) * self.dilations[axis] + 1
            total = max(0, (-(-size // self.strides[axis]) - 1) * self.strides[axis] + reach - size)
            less, more = total // 2, total - total // 2
            yield (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)


@dataclass(frozen=True)
class Moments:
    """Of the values a group's weights are multiplied with: means [groups, K] and covariances [groups, K, K], None where K is too large."""

    means: Floats
    covariances: Floats | None


def convolutions_of(model: Any) -> list[Convolution]:
    """The model's 2-D convolutions whose weights (and bias, zeros where there is none) are constants, in the order of its nodes."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or any(name not in constants for name in node.input[1:] if name) or len(constants[node.input[1]].dims) != 4:
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weights, *biases = (numpy_helper.to_array(constants[name]) for name in node.input[1:] if name)
        found.append(
            Convolution(
                node=node,
                weights=weights,
                bias=biases[0] if biases else np.zeros(len(weights), dtype=np.float32),
                strides=tuple(attributes.get("strides", (1, 1))),
                dilations=tuple(attributes.get("dilations", (1, 1))),
                groups=attributes.get("group", 1),
                pads=tuple(attributes.get("pads", (0, 0, 0, 0))),
                auto_pad=attributes.get("auto_pad", b"NOTSET").decode(),
            )
        )
    return found


def moments_of(model: Any, convolutions: list[Convolution], images: Pixels) -> list[Moments]:
    """Moments of what each convolution sees when the model runs on images uint8 [n, H, W, 3], at places drawn anew for each batch."""
    generator = np.random.default_rng(0)
    places = -(-_PLACES // len(images))
    sums = [_Sums(convolution) for convolution in convolutions]
    for inputs in _inputs(model, convolutions, images):
        for total in sums:
            total.add(total.convolution.patches(inputs[total.convolution.node.input[0]], places, generator))
    return [total.moments() for total in sums]


class _Sums:
    """Running sums over the patches [groups, n, K] that one convolution sees, each value less the first batch's mean of it.

    A covariance is the same for shifted values, and shifted ones do not cancel: float32 sums of values that hardly vary would give a covariance
    that is no longer positive semi-definite. Its rounding errors are now some 1e-6 of the variances.
    """

    def __init__(self, convolution: Convolution) -> None:
        width = math.prod(convolution.weights.shape[1:])
        self.convolution = convolution
        self.count = 0
        self.centre: Floats | None = None
        self.first = np.zeros((convolution.groups, width), dtype=np.float32)
        self.second = np.zeros((convolution.groups, width, width), dtype=np.float32) if width <= _LARGEST else None

    def add(self, patches: Floats) -> None:
        if self.centre is None:
            self.centre = patches.mean(axis=1, keepdims=True)
        shifted = patches - self.centre
        self.count += patches.shape[1]
        self.first += shifted.sum(axis=1)
        if self.second is not None:
            self.second += np.matmul(shifted.transpose(0, 2, 1), shifted)

    def moments(self) -> Moments:
        if self.centre is None:
            raise ValueError("no patches were added")
        shift: Floats = (self.first / self.count).astype(np.float32)
        means: Floats = shift + self.centre[:, 0]
        if self.second is None:
            return Moments(means, None)
        return Moments(means, (self.second / self.count - shift[:, :, None] * shift[:, None, :]).astype(np.float32))


def multiply_adds_of(model: Any, convolutions: list[Convolution], images: Pixels) -> list[int]:
    """Of each convolution for one image, seen on the first of the images uint8 [n, H, W, 3]."""
    seen = next(_inputs(model, convolutions, images[:1]), {})
    return [convolution.multiply_adds(*seen[convolution.node.input[0]].shape[2:]) for convolution in convolutions]


def probabilities_of(model: Any, images: Pixels) -> Floats:
    """The first output of an onnx.ModelProto, [n, classes], for images uint8 [n, H, W, 3]."""
    session = _session(model)
    return np.concatenate([session.run([model.graph.output[0].name], {"image": batch})[0] for batch in batches(images)])


def _inputs(model: Any, convolutions: list[Convolution], images: Pixels) -> Iterator[dict[str, Floats]]:
    """The convolutions' inputs by name, batch by batch; nothing where there are no convolutions."""
    import onnx

    if not convolutions:
        return

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = sorted({convolution.node.input[0] for convolution in convolutions})
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = _session(probe)
    for batch in batches(images):
        yield dict(zip(names, session.run(names, {"image": batch}), strict=True))


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ORT_QUIET
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def batches(images: Pixels) -> list[Pixels]:
    """The images in parts of eight to fifteen: what a convolution network keeps of one is tens of megabytes.

    Int8 ranges are averaged over these parts (`quantize`): another size makes other files. Fewer than sixteen images are one part, and its range
    the widest: averaged over single images it would cut most of them.
    """
    return np.array_split(images, max(1, len(images) // _BATCH))
