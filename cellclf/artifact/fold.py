"""Folds that leave an fp32 graph's function as it is, up to fp32 rounding, and that ONNX Runtime does not make itself. Imports onnx when called.

Scaling and channel order go into the first convolution; average pools behind the 1 × 1 convolutions that read them; idle reshapes go.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fold"]

_TO_PLANES = (0, 3, 1, 2)
_LARGEST_ERROR = 1e-4
"""How far a scaling may be from an affine function of the pixel: fp32 rounding of values up to 255 is 3e-5."""

Floats = npt.NDArray[np.float64]


def fold(model: Any) -> Any:
    """A copy of an onnx.ModelProto, input `image` uint8 [batch, H, W, 3], with fewer nodes that gives the same probabilities."""
    import onnx

    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    _drop_reshapes_to_the_same_shape(folded)
    _fold_scaling(folded)
    while _pool_behind_convolution(folded):
        pass
    _drop_what_nobody_reads(folded)
    onnx.checker.check_model(folded, full_check=True)
    return folded


@dataclass(frozen=True)
class _Scaling:
    """What the first convolution sees of a pixel: matrix [3, 3] · (pixel − centre [3])."""

    matrix: Floats
    centre: Floats


def _fold_scaling(model: Any) -> None:
    """Cast → scaling → Transpose → Conv becomes Transpose → Cast → Conv, with the scaling in the convolution's weights.

    The centre goes into the bias where the convolution has no padding. Where it has, padding with zeros means padding with the centre, so that the
    centre is subtracted first. The transpose moves bytes, not floats.
    """
    from onnx import TensorProto, helper, numpy_helper

    transpose = _transpose_to_planes(model)
    scaling = None if transpose is None else _measured_scaling(model, transpose)
    readers = [] if transpose is None else _readers(model, transpose.output[0])
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    if scaling is None or len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].input[1] not in constants:
        return
    convolution = readers[0]
    weights = numpy_helper.to_array(constants[convolution.input[1]]).astype(np.float64)
    if weights.shape[1] != len(scaling.centre):
        return
    mixed = np.einsum("oshw,sp->ophw", weights, scaling.matrix)
    before = [
        helper.make_node("Transpose", ["image"], ["image_planes"], name="image_planes", perm=_TO_PLANES),
        helper.make_node("Cast", ["image_planes"], ["image_floats"], name="image_floats", to=TensorProto.FLOAT),
    ]
    new = {"folded_weights": mixed}
    seen = "image_floats"
    if _pads(convolution):
        new["pixel_centre"] = scaling.centre[:1].reshape(()) if np.ptp(scaling.centre) == 0 else scaling.centre.reshape(1, 3, 1, 1)
        before.append(helper.make_node("Sub", [seen, "pixel_centre"], ["image_centred"], name="image_centred"))
        seen = "image_centred"
    else:
        bias = numpy_helper.to_array(constants[convolution.input[2]]) if len(convolution.input) > 2 else np.zeros(len(weights))
        new["folded_bias"] = bias - np.einsum("ophw,p->o", mixed, scaling.centre)
    inputs = [seen, "folded_weights", *(["folded_bias"] if "folded_bias" in new else convolution.input[2:])]
    del convolution.input[:]
    convolution.input.extend(inputs)
    model.graph.initializer.extend(numpy_helper.from_array(values.astype(np.float32), name) for name, values in new.items())
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _transpose_to_planes(model: Any) -> Any | None:
    """The node that turns the scaled image [batch, H, W, 3] to [batch, 3, H, W]."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "Transpose" and tuple(helper.get_node_attr_value(node, "perm")) == _TO_PLANES:
            return node
        if node.op_type == "Conv":
            return None
    return None


def _measured_scaling(model: Any, transpose: Any) -> _Scaling | None:
    """The scaling, measured on black images and such of one pure colour, and proven on a drawn one; None where it is no affine function."""
    _, height, width, channels = (dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim)
    colours = np.vstack([np.zeros(channels), 255 * np.eye(channels)]).astype(np.uint8)
    drawn = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), dtype=np.uint8)
    images = np.concatenate([np.broadcast_to(colours[:, None, None], (len(colours), height, width, channels)), drawn])
    found = _values(model, transpose.output[0], images).astype(np.float64)
    offset = found[0, :, 0, 0]
    matrix = (found[1:-1, :, 0, 0] - offset).T / 255
    expected = np.einsum("sp,hwp->shw", matrix, drawn[0].astype(np.float64)) + offset[:, None, None]
    if np.abs(expected - found[-1]).max() > _LARGEST_ERROR or np.linalg.matrix_rank(matrix) < channels:
        return None
    return _Scaling(matrix, np.round(-np.linalg.solve(matrix, offset), 4))


def _values(model: Any, name: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What a value inside the graph is for these images."""
    import onnx
    import onnxruntime

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    _drop_what_nobody_reads(probe)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.float32] = session.run([name], {"image": images})[0]
    return found


def _pool_behind_convolution(model: Any) -> bool:
    """AveragePool → Conv 1 × 1 with fewer channels becomes Conv → AveragePool, once; says whether there was one.

    A mean of W x + b over the places that a pool counts is W · mean(x) + b, and fewer channels are left to pool. True of pools that count no padding.
    """
    for pool in model.graph.node:
        readers = _readers(model, pool.output[0]) if pool.op_type == "AveragePool" else []
        if len(readers) != 1 or not _is_narrowing_pointwise(model, readers[0]) or (_pads(pool) and _attributes(pool).get("count_include_pad", 0)):
            continue
        convolution = readers[0]
        source, between, result = pool.input[0], f"{convolution.output[0]}_unpooled", convolution.output[0]
        convolution.input[0], convolution.output[0] = source, between
        pool.input[0], pool.output[0] = between, result
        nodes = list(model.graph.node)
        first, second = nodes.index(pool), nodes.index(convolution)
        nodes[second] = pool
        nodes[first] = convolution
        _replace_nodes(model, nodes)
        del model.graph.value_info[:]
        return True
    return False


def _is_narrowing_pointwise(model: Any, node: Any) -> bool:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    if node.op_type != "Conv" or node.input[1] not in shapes:
        return False
    attributes, (outputs, inputs, *kernel) = _attributes(node), shapes[node.input[1]]
    plain = attributes.get("group", 1) == 1 and set(attributes.get("strides", (1, 1))) == {1} and not _pads(node)
    return plain and kernel == [1, 1] and outputs < inputs


def _drop_reshapes_to_the_same_shape(model: Any) -> None:
    """The converter turns transposes of 1 × 1 maps into reshapes."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info}
    kept = []
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        before, after = (shapes.get(name) for name in (node.input[0], node.output[0])) if node.op_type == "Reshape" else (None, None)
        # One dimension, the batch, may be unknown: the others fix it.
        if before and after and len(before) == len(after) and before[1:] == after[1:] and all(isinstance(size, int) and size for size in before[1:]):
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(model, kept)


def _drop_what_nobody_reads(model: Any) -> None:
    """Nodes and constants that no output depends on any more."""
    wanted = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    _replace_nodes(model, kept[::-1])
    held = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    del model.graph.initializer[:]
    model.graph.initializer.extend(held)


def _replace_nodes(model: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _readers(model: Any, name: str) -> list[Any]:
    return [node for node in model.graph.node if name in node.input]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _pads(node: Any) -> bool:
    """Whether a Conv or AveragePool looks beyond the border."""
    attributes = _attributes(node)
    return any(attributes.get("pads", ())) or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
