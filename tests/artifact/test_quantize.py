from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.quantize import correct_biases, rounded_to_int8, to_int8
from cellclf.data.decoding import Pixels

Floats = npt.NDArray[np.float32]

SIZE_PX = 12
weights_of_convolutions = arrays(
    np.float32,
    array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-1000, 1000, width=32, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-20 else 0.0),
)


def scales(weights: Floats) -> Floats:
    """One a channel, in the shape of the weights' first axis."""
    largest: Floats = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    return largest


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounding_moves_a_weight_by_half_a_step_at_most(weights: Floats) -> None:
    assert (np.abs(rounded_to_int8(weights) - weights) <= scales(weights) * 0.5 * (1 + 1e-4)).all()


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounded_weights_are_at_most_127_steps_each_way(weights: Floats) -> None:
    scale = scales(weights)
    steps = np.divide(rounded_to_int8(weights), scale, out=np.zeros_like(weights), where=scale > 0)
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    assert np.abs(np.round(steps)).max() <= 127


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounding_twice_is_rounding_once(weights: Floats) -> None:
    once = rounded_to_int8(weights)
    np.testing.assert_allclose(rounded_to_int8(once), once, rtol=1e-6, atol=0)


@settings(max_examples=100, deadline=None)
@given(weights_of_convolutions)
def test_each_channel_is_rounded_by_its_own_scale(weights: Floats) -> None:
    together = rounded_to_int8(weights)
    for number in range(len(weights)):
        np.testing.assert_array_equal(together[number], rounded_to_int8(weights[number : number + 1])[0])


def test_a_channel_of_zeros_stays_zero_and_is_no_division_by_zero() -> None:
    weights = np.zeros((2, 1, 3, 3), dtype=np.float32)
    weights[1] = 0.5
    np.testing.assert_array_equal(rounded_to_int8(weights), weights)


def test_rounding_keeps_float32_and_leaves_its_input_alone() -> None:
    weights = np.linspace(-1, 1, 18, dtype=np.float32).reshape(2, 1, 3, 3)
    before = weights.copy()
    assert rounded_to_int8(weights).dtype == np.float32
    np.testing.assert_array_equal(weights, before)


def coarse(generator: np.random.Generator, *shape: int) -> Floats:
    """Random weights, one of which in each channel is so large that the others round badly."""
    weights = generator.uniform(0.0, 0.1, shape).astype(np.float32)
    weights[:, 0, 0, 0] = 8.0
    return weights


@pytest.fixture(scope="module")
def network() -> Any:
    """image uint8 [batch, 12, 12, 3] → two convolutions, the second without a bias → probabilities [batch, 4]."""
    generator = np.random.default_rng(0)
    values = {
        "scale": np.array(1 / 255, dtype=np.float32),
        "first_weights": coarse(generator, 8, 3, 3, 3),
        "first_bias": generator.normal(size=8).astype(np.float32),
        "second_weights": coarse(generator, 4, 8, 1, 1),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first_weights", "first_bias"], ["first"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["first"], ["rectified"]),
        helper.make_node("Conv", ["rectified", "second_weights"], ["second"]),
        helper.make_node("GlobalAveragePool", ["second"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Softmax", ["features"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])],
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
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    found: list[Floats] = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        list(names), {"image": images}
    )
    return found


def with_rounded_weights(model: Any) -> Any:
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in rounded.graph.initializer:
        if tensor.name.endswith("_weights"):
            tensor.CopyFrom(numpy_helper.from_array(rounded_to_int8(numpy_helper.to_array(tensor)), tensor.name))
    return rounded


@pytest.mark.parametrize("count", [1, 15, 16, 33, 50])
def test_corrected_biases_bring_the_rounded_networks_mean_outputs_closer_to_the_fp32_ones(network: Any, count: int) -> None:
    images = drawn_images(count)
    names = ["first", "second"]
    whole = outputs(network, images, names)
    plain = outputs(with_rounded_weights(network), images, names)
    corrected = outputs(with_rounded_weights(correct_biases(network, images)), images, names)
    for fp32, rounded, mended in zip(whole, plain, corrected, strict=True):
        before = np.abs((rounded - fp32).mean(axis=(0, 2, 3)))
        after = np.abs((mended - fp32).mean(axis=(0, 2, 3)))
        assert after.mean() < 0.2 * before.mean()
    first_after = np.abs((corrected[0] - whole[0]).mean(axis=(0, 2, 3)))
    assert first_after.max() < 1e-4, "the first convolution sees the same pixels, so its mean is kept but for float32 rounding"


def test_correction_changes_biases_only_and_gives_one_to_each_convolution(network: Any) -> None:
    before = network.SerializeToString()
    corrected = correct_biases(network, drawn_images(20))
    assert network.SerializeToString() == before, "the model that was given is not touched"
    onnx.checker.check_model(corrected, full_check=True)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    kept = [tensor for tensor in network.graph.initializer if tensor.name != "first_bias"]
    for tensor in kept:
        np.testing.assert_array_equal(values[tensor.name], numpy_helper.to_array(tensor))
    assert set(values) == {*(tensor.name for tensor in kept), "corrected_bias_0", "corrected_bias_1"}, "the replaced bias is gone"
    convolutions = [node for node in corrected.graph.node if node.op_type == "Conv"]
    assert [len(node.input) for node in convolutions] == [3, 3]
    assert [values[node.input[2]].shape for node in convolutions] == [(8,), (4,)]
    assert [node.op_type for node in corrected.graph.node] == [node.op_type for node in network.graph.node]


def test_weights_that_int8_holds_exactly_need_no_correction(network: Any) -> None:
    exact = with_rounded_weights(network)
    corrected = correct_biases(exact, drawn_images(20))
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    first, second = (values[node.input[2]] for node in corrected.graph.node if node.op_type == "Conv")
    own = next(numpy_helper.to_array(tensor) for tensor in exact.graph.initializer if tensor.name == "first_bias")
    np.testing.assert_allclose(first, own, atol=1e-5)
    np.testing.assert_allclose(second, 0, atol=1e-5)


def test_int8_convolution_weights_are_the_rounding_that_the_correction_assumes(network: Any) -> None:
    quantized = to_int8(network, drawn_images(20))
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    source = {tensor.name: numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    found = 0
    for name in ("first_weights", "second_weights"):
        node = next(node for node in quantized.graph.node if node.op_type == "DequantizeLinear" and node.input[0].startswith(name))
        steps, scale = values[node.input[0]], values[node.input[1]]
        assert steps.dtype == np.int8
        np.testing.assert_allclose(steps * scale.reshape(-1, 1, 1, 1), rounded_to_int8(source[name]), rtol=1e-5, atol=1e-7)
        found += 1
    assert found == 2


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
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values: Floats = session.run(["probabilities"], {"image": images})[0]
    return values
