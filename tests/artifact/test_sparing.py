from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact import quantize
from cellclf.artifact.moments import convolutions_of, multiply_adds_of
from cellclf.artifact.quantize import to_int8
from cellclf.artifact.sparing import STEADY, log_odds_noise, nodes_before, spared
from cellclf.data.decoding import Pixels

SIZE_PX = 16


def chain(*channels: int) -> Any:
    """image uint8 [batch, 16, 16, 3] → 3 × 3 convolutions with so many channels, a Relu after each, no names → probabilities."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["relu_0"], perm=[0, 3, 1, 2]),
    ]
    held = [numpy_helper.from_array(np.array(1 / 255, dtype=np.float32), "scale")]
    for number, (inputs, outputs) in enumerate(zip((3, *channels), channels, strict=False), start=1):
        weights = generator.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
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


def in_fp32(model: Any) -> int:
    """Convolutions of a quantized network whose weights are floats."""
    return len(convolutions_of(model))


@pytest.mark.parametrize(
    ("channels", "numbers"),
    [
        ((16, 32, 48, 48, 48), [3]),  # the narrow start is a third of the work already, the next would be more than any share
        ((16, 20, 24), [3]),  # none is wide
        ((40, 80, 80, 80, 80, 80), [1, 2]),  # 3 × 40 + 40 × 80 is an eighth of the work or less; a second 80 × 80 is more than a quarter
        ((40, *(80,) * 12), [1, 2, 4]),
    ],
)
def test_convolutions_are_spared_as_far_as_their_work_allows(channels: tuple[int, ...], numbers: list[int]) -> None:
    model = chain(*channels)
    work = [inputs * outputs for inputs, outputs in zip((3, *channels), channels, strict=False)]
    assert multiply_adds_of(model, convolutions_of(model), drawn_images(3)) == [9 * SIZE_PX**2 * product for product in work]
    assert spared(model, drawn_images(3)) == numbers


def test_the_nodes_before_a_convolution_are_named_and_end_where_it_begins() -> None:
    model = chain(16, 40, 40)
    names = nodes_before(model, 2)
    before = [node for node in model.graph.node if node.name in names]
    assert [node.op_type for node in before] == ["Cast", "Mul", "Transpose", "Conv", "Relu", "Conv", "Relu"]
    assert nodes_before(model, 3) == [node.name for node in model.graph.node], "there is no fourth"


@pytest.mark.parametrize(
    ("work", "positions"), [({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 8 * 8), ({"dilations": [2, 2]}, 12 * 12), ({}, 14 * 14)]
)
def test_multiply_adds_follow_strides_padding_and_dilations(work: dict[str, Any], positions: int) -> None:
    model = chain(40)
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in work.items())
    assert multiply_adds_of(model, convolutions_of(model), drawn_images(1)) == [positions * 40 * 3 * 9]


def test_noise_is_the_change_of_the_odds_where_the_labels_are_close() -> None:
    even = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    assert log_odds_noise(even, even) == 0
    shifted = np.array([[1 / (1 + np.exp(-0.3)), 1 - 1 / (1 + np.exp(-0.3)), 0.0]])
    assert log_odds_noise(even[:1], shifted) == pytest.approx(0.3)
    sure, surer = np.array([[0.5, 0.5], [1 - 1e-6, 1e-6]]), np.array([[0.5, 0.5], [1 - 1e-9, 1e-9]])
    assert log_odds_noise(sure, surer) < 1e-4, "a label that is sure does not change"
    nothing = np.array([[0.0, 1.0]])
    assert np.isfinite(log_odds_noise(nothing, 1 - nothing)), "probabilities of 0 have no logarithm"


@pytest.mark.parametrize(("noises", "expected"), [([0.0], 1), ([1.0, STEADY], 2), ([1.0, STEADY * 1.01], 4), ([1.0, 1.0], 4)])
def test_more_convolutions_stay_in_fp32_until_the_answers_are_steady(monkeypatch: pytest.MonkeyPatch, noises: list[float], expected: int) -> None:
    told = iter(noises)
    monkeypatch.setattr(quantize, "log_odds_noise", lambda _exact, _coarse: next(told))
    quantized = to_int8(chain(40, *(80,) * 12), drawn_images(8))
    assert in_fp32(quantized) == expected
    assert next(told, None) is None, "each attempt but the last is measured once"


def test_what_stays_in_fp32_has_the_weights_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "log_odds_noise", lambda _exact, _coarse: 1.0)
    model = chain(40, *(80,) * 12)
    given, found = convolutions_of(model), convolutions_of(to_int8(model, drawn_images(8)))
    assert len(found) == 4
    for before, after in zip(given, found, strict=False):
        np.testing.assert_array_equal(after.weights, before.weights)
