from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.quantize import convolutions_in_fp32, round_convolutions, to_fp16, to_int8
from cellclf.artifact.rounding import Floats, rounded_to_half, rounded_to_int8
from cellclf.data.decoding import Pixels

SIZE_PX = 12
CONVOLUTIONS = {"narrow": (8, 3, 3, 3), "widening": (40, 8, 1, 1), "depthwise": (40, 1, 3, 3), "wide": (36, 40, 1, 1)}
"""Shapes of their weights; the first two see few channels."""
NARROW = ["narrow", "widening"]
ROUNDED = ["depthwise", "wide"]


def coarse(generator: np.random.Generator, *shape: int) -> Floats:
    """Random weights, one of which in each channel is so large that the others round badly."""
    weights = generator.uniform(0.0, 0.1, shape).astype(np.float32)
    weights[:, 0, 0, 0] = 2.0
    return weights


@pytest.fixture(scope="module")
def network() -> Any:
    """image uint8 [batch, 12, 12, 3] → four convolutions, the last without a bias, nodes without names → probabilities [batch, 36]."""
    generator = np.random.default_rng(0)
    values = {f"{name}_weights": coarse(generator, *shape) for name, shape in CONVOLUTIONS.items()}
    values |= {f"{name}_bias": generator.normal(size=shape[0]).astype(np.float32) for name, shape in CONVOLUTIONS.items() if name != "wide"}
    values["scale"] = np.array(1 / 255, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "narrow_weights", "narrow_bias"], ["narrow"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["narrow"], ["narrow_rectified"]),
        helper.make_node("Conv", ["narrow_rectified", "widening_weights", "widening_bias"], ["widening"]),
        helper.make_node("Relu", ["widening"], ["widening_rectified"]),
        helper.make_node("Conv", ["widening_rectified", "depthwise_weights", "depthwise_bias"], ["depthwise"], pads=[1, 1, 1, 1], group=40),
        helper.make_node("Relu", ["depthwise"], ["depthwise_rectified"]),
        helper.make_node("Conv", ["depthwise_rectified", "wide_weights"], ["wide"]),
        helper.make_node("GlobalAveragePool", ["wide"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Softmax", ["features"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 36])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def drawn_images(count: int) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def outputs(model: Any, images: Pixels, names: Sequence[str]) -> list[Floats]:
    """Values inside a network."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    inner = [name for name in names if name not in {output.name for output in probe.graph.output}]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    found: list[Floats] = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        list(names), {"image": images}
    )
    return found


def initializers(model: Any) -> dict[str, Floats]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def weights_and_bias(model: Any) -> dict[str, list[Floats]]:
    """Of each convolution, by the name of its output."""
    values = initializers(model)
    return {node.output[0]: [values[name] for name in node.input[1:]] for node in model.graph.node if node.op_type == "Conv"}


def rounded_for_int8(model: Any, images: Pixels) -> Any:
    """With the weights that int8 files hold."""
    return round_convolutions(model, images, rounded_to_int8, kept=NARROW)


def to_nearest_steps(model: Any) -> Any:
    """The same convolutions rounded without a look at any image."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in rounded.graph.initializer:
        if tensor.name in {f"{name}_weights" for name in ROUNDED}:
            tensor.CopyFrom(numpy_helper.from_array(rounded_to_int8(numpy_helper.to_array(tensor)), tensor.name))
    return rounded


@pytest.mark.parametrize("count", [1, 7, 8, 17, 50])
def test_rounded_convolutions_keep_their_mean_outputs(network: Any, count: int) -> None:
    images = drawn_images(count)
    whole = outputs(network, images, ROUNDED)
    nearest = outputs(to_nearest_steps(network), images, ROUNDED)
    rounded = outputs(rounded_for_int8(network, images), images, ROUNDED)
    for fp32, plain, mended in zip(whole, nearest, rounded, strict=True):
        assert np.abs((mended - fp32).mean(axis=(0, 2, 3))).mean() < 0.2 * np.abs((plain - fp32).mean(axis=(0, 2, 3))).mean()
    first_shift = np.abs((rounded[0] - whole[0]).mean(axis=(0, 2, 3)))
    assert first_shift.max() < 1e-4, "the first rounded convolution sees the same values, so its mean is kept but for float32 rounding"


def test_rounded_convolutions_move_single_outputs_less_than_nearest_steps_do(network: Any) -> None:
    images = drawn_images(50)
    whole, nearest, rounded = (outputs(model, images, ROUNDED) for model in (network, to_nearest_steps(network), rounded_for_int8(network, images)))
    for fp32, plain, mended in zip(whole, nearest, rounded, strict=True):
        assert (mended - fp32).std() < (plain - fp32).std()


def test_rounding_changes_the_weights_and_biases_of_wide_convolutions_only(network: Any) -> None:
    before = network.SerializeToString()
    rounded = rounded_for_int8(network, drawn_images(20))
    assert network.SerializeToString() == before, "the model that was given is not touched"
    onnx.checker.check_model(rounded, full_check=True)
    assert [node.op_type for node in rounded.graph.node] == [node.op_type for node in network.graph.node]
    found, given = weights_and_bias(rounded), weights_and_bias(network)
    for name in CONVOLUTIONS.keys() - ROUNDED:
        np.testing.assert_equal(found[name], given[name])
    for name in ROUNDED:
        weights, bias = found[name]
        np.testing.assert_allclose(rounded_to_int8(weights), weights, rtol=1e-6, atol=0)
        np.testing.assert_allclose(np.abs(weights).max(axis=(1, 2, 3)), np.abs(given[name][0]).max(axis=(1, 2, 3)), rtol=1e-6)
        assert bias.shape == (len(weights),)


def test_what_was_replaced_is_gone_and_the_same_images_give_the_same_file(network: Any) -> None:
    images = drawn_images(20)
    rounded = rounded_for_int8(network, images)
    used = {name for node in rounded.graph.node for name in node.input}
    assert {tensor.name for tensor in rounded.graph.initializer} <= used
    assert to_int8(network, images).SerializeToString() == to_int8(network, images).SerializeToString()


def test_images_of_one_colour_can_be_calibrated_with(network: Any) -> None:
    images = np.full((20, SIZE_PX, SIZE_PX, 3), 200, dtype=np.uint8)
    found = probabilities(to_int8(network, images), images)
    np.testing.assert_allclose(found, probabilities(network, images), atol=0.05)


def test_weights_that_int8_holds_exactly_are_left_as_they_are(network: Any) -> None:
    exact = to_nearest_steps(network)
    found, given = weights_and_bias(rounded_for_int8(exact, drawn_images(20))), weights_and_bias(exact)
    for name in ROUNDED:
        np.testing.assert_allclose(found[name][0], given[name][0], rtol=1e-6)
    np.testing.assert_allclose(found["depthwise"][1], given["depthwise"][1], atol=1e-5)
    np.testing.assert_allclose(found["wide"][1], 0, atol=1e-5)


def test_int8_files_hold_the_rounded_weights_step_by_step_and_narrow_convolutions_in_fp32(network: Any) -> None:
    images = drawn_images(20)
    quantized = to_int8(network, images)
    values = initializers(quantized)
    dequantized = {node.output[0]: node.input for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    expected = weights_and_bias(rounded_for_int8(network, images))
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    assert convolutions_in_fp32(quantized) == (len(NARROW), len(CONVOLUTIONS))
    for node, name in zip(convolutions, CONVOLUTIONS, strict=True):
        weights = expected[name][0]
        if name not in ROUNDED:
            np.testing.assert_array_equal(values[node.input[1]], weights)
            continue
        steps, scale, _ = (values[part] for part in dequantized[node.input[1]])
        assert steps.dtype == np.int8
        np.testing.assert_array_equal(steps, np.round(weights / (np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127)))
        np.testing.assert_allclose(steps * scale.reshape(-1, 1, 1, 1), weights, rtol=1e-5, atol=1e-7)


def test_an_int8_network_gives_nearly_the_same_probabilities_in_every_batch_size(network: Any) -> None:
    images = drawn_images(24)
    quantized = to_int8(network, images)
    onnx.checker.check_model(quantized, full_check=True)
    whole = probabilities(network, images)
    found = probabilities(quantized, images)
    assert np.abs(found - whole).mean() < 0.02
    alone = np.concatenate([probabilities(quantized, image[None]) for image in images])
    np.testing.assert_allclose(alone, found, atol=1e-6)


def probabilities(model: Any, images: Pixels) -> Floats:
    return outputs(model, images, ["probabilities"])[0]


def test_halves_that_are_chosen_for_what_is_seen_move_the_outputs_less_than_the_nearest_do(network: Any) -> None:
    images = drawn_images(50)
    before = network.SerializeToString()
    nearest = onnx.ModelProto()
    nearest.CopyFrom(network)
    for tensor in nearest.graph.initializer:
        if tensor.name.endswith("_weights"):
            tensor.CopyFrom(numpy_helper.from_array(rounded_to_half(numpy_helper.to_array(tensor)), tensor.name))
    chosen = round_convolutions(network, images, rounded_to_half)
    assert network.SerializeToString() == before, "the model that was given is not touched"
    whole, plain, mended = (outputs(model, images, list(CONVOLUTIONS)) for model in (network, nearest, chosen))
    for exact, rounded, better in zip(whole, plain, mended, strict=True):
        assert np.abs((better - exact).mean(axis=(0, 2, 3))).mean() < 0.3 * np.abs((rounded - exact).mean(axis=(0, 2, 3))).mean()
        assert (better - exact).std() < (rounded - exact).std()


def test_a_calibrated_file_in_half_precision_holds_halves_and_gives_the_networks_numbers(network: Any) -> None:
    images = drawn_images(20)
    half = to_fp16(network, images)
    assert {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4} == {TensorProto.FLOAT16}
    np.testing.assert_allclose(probabilities(half, images), probabilities(network, images), atol=1e-2)
