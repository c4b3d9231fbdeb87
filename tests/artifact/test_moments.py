from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.moments import convolutions_of, moments_of
from cellclf.artifact.rounding import rounded_to_int8
from cellclf.data.decoding import Pixels

HEIGHT_PX, WIDTH_PX = 13, 10
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {"strides": [2, 2], "pads": [0, 0, 1, 1]},
    {"strides": [2, 3], "pads": [1, 0, 2, 3]},
    {"dilations": [2, 3], "pads": [2, 1, 0, 3]},
    {"group": 3, "pads": [1, 1, 1, 1]},
    {"group": 3, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 1], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"strides": [3, 2], "auto_pad": "VALID"},
]


def network(kernel: tuple[int, int], *, biased: bool, attributes: dict[str, Any]) -> Any:
    """image uint8 [batch, 13, 10, 3] → one convolution to six channels."""
    generator = np.random.default_rng(0)
    values = {"weights": generator.normal(size=(6, 3 // attributes.get("group", 1), *kernel)).astype(np.float32)}
    if biased:
        values["bias"] = generator.normal(size=6).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", *values], ["found"], **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", HEIGHT_PX, WIDTH_PX, 3])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["batch", 6, "height", "width"])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3)])
@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=str)
def test_moments_of_the_inputs_give_mean_and_variance_of_the_outputs(kernel: tuple[int, int], biased: bool, attributes: dict[str, Any]) -> None:
    model = network(kernel, biased=biased, attributes=attributes)
    onnx.checker.check_model(model, full_check=True)
    images: Pixels = np.random.default_rng(1).integers(0, 256, (20, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images})[0].astype(np.float64)

    convolutions = convolutions_of(model)
    (moments,) = moments_of(model, convolutions, images)
    assert moments.covariances is not None
    weights = convolutions[0].weights.reshape(convolutions[0].groups, -1, moments.means.shape[1])
    means = np.einsum("gck,gk->gc", weights, moments.means).ravel() + convolutions[0].bias
    variances = np.einsum("gck,gkj,gcj->gc", weights, moments.covariances, weights).ravel()
    np.testing.assert_allclose(means, found.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(variances, found.var(axis=(0, 2, 3)), rtol=1e-3)


def test_convolutions_with_computed_weights_are_passed_over() -> None:
    model = network((1, 1), biased=True, attributes={})
    model.graph.node[2].input[1] = "planes"
    assert convolutions_of(model) == []


@pytest.mark.parametrize("spread", [0, 1], ids=["one value only", "hardly any spread"])
@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["near zero", "far from zero"])
def test_covariances_of_degenerate_activations_can_be_rounded_with(spread: int, offset: float) -> None:
    model = network((3, 3), biased=True, attributes={})
    scale = {"scale": np.float32(1e-3), "offset": np.float32(offset)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in scale.items())
    model.graph.node[2].input[0] = "shifted"
    model.graph.node.insert(2, helper.make_node("Mul", ["planes", "scale"], ["small"]))
    model.graph.node.insert(3, helper.make_node("Add", ["small", "offset"], ["shifted"]))
    images: Pixels = np.random.default_rng(1).integers(7, 8 + spread, (20, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    convolutions = convolutions_of(model)
    (moments,) = moments_of(model, convolutions, images)
    assert moments.covariances is not None
    variances = np.einsum("gkk->gk", moments.covariances)
    assert (variances >= 0).all()
    if not spread:
        assert not moments.covariances.any()
    rounded = rounded_to_int8(convolutions[0].weights, moments.covariances)
    np.testing.assert_allclose(moments.means, offset + 7.5e-3, atol=1e-3 + 1e-6 * offset)
    np.testing.assert_allclose(rounded_to_int8(rounded), rounded, rtol=1e-5, atol=1e-7)
