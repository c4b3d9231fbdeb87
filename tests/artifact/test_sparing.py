from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact import quantize
from cellclf.artifact.moments import convolutions_of, multiply_adds_of
from cellclf.artifact.quantize import convolutions_in_fp32, to_int8
from cellclf.artifact.rounding import Floats
from cellclf.artifact.sparing import LARGEST_NOISE, log_odds_noise, nodes_in_fp32, start_in_fp32
from cellclf.data.decoding import Pixels

SIZE_PX = 16


LONG = (40, *(80,) * 12)
"""Channels of a network in which one, two or four convolutions may stay in fp32."""


def chain(*channels: int, gain: float = 1.0) -> Any:
    """image uint8 [batch, 16, 16, 3] → 3 × 3 convolutions with so many channels, a Relu after each, no names → probabilities.

    gain: of the logits, which the last convolution's outputs are; the first two of them are nearly alike, and the largest.
    """
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["relu_0"], perm=[0, 3, 1, 2]),
    ]
    held = [numpy_helper.from_array(np.array(1 / 255, dtype=np.float32), "scale")]
    for number, (inputs, outputs) in enumerate(zip((3, *channels), channels, strict=False), start=1):
        weights = generator.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        if number == len(channels):
            weights[1] = weights[0] + 0.1 * weights[1]
            weights[:2] *= 2 * gain
            weights[2:] *= gain / 10
        held.append(numpy_helper.from_array(weights, f"weights_{number}"))
        nodes.append(helper.make_node("Conv", [f"relu_{number - 1}", f"weights_{number}"], [f"conv_{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv_{number}"], [f"relu_{number}"]))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"relu_{len(channels)}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Softmax", ["features"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", channels[-1]])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def drawn_images(count: int) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("channels", "numbers"),
    [
        ((16, 32, 48, 48, 48), [3]),  # the narrow start is a third of the work already, the next would be more than any share
        ((16, 20, 24), [3]),  # none is wide
        ((40, 80, 80, 80, 80, 80), [1, 2]),  # 3 × 40 + 40 × 80 is an eighth of the work or less; a second 80 × 80 is more than a quarter
        (LONG, [1, 2, 4]),
    ],
)
def test_convolutions_may_stay_in_fp32_as_far_as_their_work_allows(channels: tuple[int, ...], numbers: list[int]) -> None:
    model = chain(*channels)
    work = [inputs * outputs for inputs, outputs in zip((3, *channels), channels, strict=False)]
    assert multiply_adds_of(model, convolutions_of(model), drawn_images(3)) == [9 * SIZE_PX**2 * product for product in work]
    assert start_in_fp32(model, drawn_images(3)) == [[f"conv_{each + 1}" for each in range(number)] for number in numbers]


def test_a_network_without_a_wide_convolution_stays_in_fp32() -> None:
    model = chain(16, 20, 24)
    quantized = to_int8(model, drawn_images(8))
    assert convolutions_in_fp32(quantized) == (3, 3)
    assert "QuantizeLinear" not in {node.op_type for node in quantized.graph.node}


@pytest.mark.parametrize(
    ("work", "positions"),
    [
        ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 8 * 8),
        ({"dilations": [2, 2]}, 12 * 12),
        ({"group": 1}, 14 * 14),
        ({"pads": [1, 0, 2, 0]}, 17 * 14),
    ],
)
def test_multiply_adds_follow_strides_padding_and_dilations(work: dict[str, Any], positions: int) -> None:
    model = chain(40)
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in work.items())
    assert multiply_adds_of(model, convolutions_of(model), drawn_images(1)) == [positions * 40 * 3 * 9]


def test_a_depthwise_convolution_multiplies_each_channel_with_its_own_weights_only() -> None:
    model = chain(40, 40)
    second = [node for node in model.graph.node if node.op_type == "Conv"][1]
    second.attribute.append(helper.make_attribute("group", 40))
    held = next(tensor for tensor in model.graph.initializer if tensor.name == "weights_2")
    held.CopyFrom(numpy_helper.from_array(np.ones((40, 1, 3, 3), dtype=np.float32), "weights_2"))
    assert multiply_adds_of(model, convolutions_of(model), drawn_images(1))[1] == SIZE_PX**2 * 40 * 9


def test_nodes_stay_in_fp32_up_to_the_first_other_convolution_and_the_convolutions_asked_for_wherever_they_stand() -> None:
    model = chain(16, 40, 40, 40)
    for place, node in enumerate(model.graph.node):
        node.name = f"{place} {node.op_type}"
    names = [node.name for node in model.graph.node]
    assert nodes_in_fp32(model, ["conv_1", "conv_2"]) == names[:7]
    assert nodes_in_fp32(model, ["conv_1", "conv_3"]) == [*names[:5], "7 Conv"]
    assert nodes_in_fp32(model, [f"conv_{number}" for number in range(1, 5)]) == names


def even(share: float) -> Floats:
    """Probabilities of two labels and of a third that has none."""
    return np.array([[share, 1 - share, 0.0]], dtype=np.float32)


def test_noise_is_the_change_of_the_odds_where_the_labels_are_close() -> None:
    drawn = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    assert log_odds_noise(drawn, drawn) == 0
    assert log_odds_noise(even(0.5), even(1 / (1 + np.exp(-0.04)))) == pytest.approx(0.04, rel=1e-3)
    close = np.concatenate([even(0.5), even(0.55), even(0.9)])
    moved = np.concatenate([even(1 / (1 + np.exp(-0.04) * (1 - share) / share)) for share in (0.5, 0.55, 0.9)])
    assert log_odds_noise(close, moved) == pytest.approx(0.04, rel=0.02), "each moves the log odds by as much"


def test_where_the_network_is_sure_a_change_that_alters_no_label_is_no_noise_and_one_that_does_counts_in_full() -> None:
    sure = np.repeat(even(1 - 1e-6), 20, axis=0)
    surer = np.repeat(even(1 - 1e-9), 20, axis=0)
    assert log_odds_noise(sure, surer) < 1e-4
    nineteen = np.concatenate([np.repeat(even(0.5), 19, axis=0), even(0.0), even(1.0)])
    assert log_odds_noise(nineteen[:20], nineteen[[*range(19), 20]]) > LARGEST_NOISE
    assert np.isfinite(log_odds_noise(np.zeros((1, 2)), np.ones((1, 2)))), "probabilities of 0 have no odds"


@pytest.mark.parametrize(("noises", "expected"), [([0.0], 1), ([1.0, LARGEST_NOISE], 2), ([1.0, LARGEST_NOISE * 1.01], 4), ([1.0, 1.0], 4)])
def test_more_convolutions_stay_in_fp32_until_the_answers_are_steady(monkeypatch: pytest.MonkeyPatch, noises: list[float], expected: int) -> None:
    given = []

    def told(exact: Floats, coarse: Floats) -> float:
        given.append((exact, coarse))
        return noises[len(given) - 1]

    monkeypatch.setattr(quantize, "log_odds_noise", told)
    model, images = chain(*LONG), drawn_images(8)
    assert convolutions_in_fp32(to_int8(model, images)) == (expected, 13)
    assert len(given) == len(noises), "each attempt but the last is measured once"
    for exact, coarse in given:
        np.testing.assert_allclose(exact, values_of(model, images, "probabilities"), rtol=1e-5)
        assert 0 < np.abs(exact - coarse).max() < 0.1


@pytest.mark.parametrize(("gain", "expected"), [(0.01, 1), (30.0, 4)])
def test_answers_that_hardly_move_leave_the_narrow_start_in_fp32_only_and_such_as_move_far_all_that_may_be(gain: float, expected: int) -> None:
    assert convolutions_in_fp32(to_int8(chain(*LONG, gain=gain), drawn_images(24))) == (expected, 13)


def test_what_stays_in_fp32_has_the_weights_it_was_given_and_the_rest_int8_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "log_odds_noise", lambda _exact, _coarse: 1.0)
    model = chain(*LONG)
    quantized = to_int8(model, drawn_images(8))
    given, found = convolutions_of(model), convolutions_of(quantized)
    assert len(found) == 4
    for before, after in zip(given, found, strict=False):
        np.testing.assert_array_equal(after.weights, before.weights)
        np.testing.assert_array_equal(after.bias, before.bias)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    dequantized = {node.output[0]: node.input for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    others = [node for node in quantized.graph.node if node.op_type == "Conv"][4:]
    assert len(others) == 9
    for node, before in zip(others, given[4:], strict=True):
        steps, scale, _ = (held[part] for part in dequantized[node.input[1]])
        assert steps.dtype == np.int8
        rough = np.abs(steps * scale.reshape(-1, 1, 1, 1) - before.weights) / scale.reshape(-1, 1, 1, 1)
        assert 0 < rough.mean() < 1, "within about a step of the given weights"


def test_a_range_is_that_of_a_batch_averaged_over_the_batches() -> None:
    model = chain(40, 40, 40)
    bright, dark = np.full((8, SIZE_PX, SIZE_PX, 3), 255, dtype=np.uint8), drawn_images(24) // 16
    images = np.concatenate([bright, dark])
    quantized = to_int8(model, images)
    values = values_of(model, images, "relu_1")
    largest = [part.max() for part in np.split(values, 4)]
    assert largest[0] > 4 * max(largest[1:])
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    (node,) = (node for node in quantized.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "relu_1")
    assert float(held[node.input[1]]) == pytest.approx(np.mean(largest) / 255, rel=1e-4)


def values_of(model: Any, images: Pixels, name: str) -> Floats:
    """A tensor inside a network."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    if name != "probabilities":
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([name], {"image": images})
    return np.asarray(found)
