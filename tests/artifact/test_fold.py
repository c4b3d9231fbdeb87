from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.fold import fold
from cellclf.data.decoding import Pixels

SIZE_PX = 10
Nodes = list[Any]

TF = [helper.make_node("Mul", ["floats", "scale"], ["scaled"]), helper.make_node("Sub", ["scaled", "one"], ["pixels"])]
TORCH = [helper.make_node("Sub", ["floats", "means"], ["centred"]), helper.make_node("Div", ["centred", "deviations"], ["pixels"])]
CAFFE = [
    *(helper.make_node("Slice", ["floats", f"at{channel}", f"at{channel + 1}", "last"], [f"channel{channel}"]) for channel in range(3)),
    helper.make_node("Concat", ["channel2", "channel1", "channel0"], ["turned"], axis=3),
    helper.make_node("Sub", ["turned", "means"], ["pixels"]),
]
SQUARED = [helper.make_node("Mul", ["floats", "floats"], ["pixels"])]
PLACED = [helper.make_node("Mul", ["floats", "map"], ["pixels"])]


def network(scaling: Nodes, *, pads: Sequence[int] = (0, 0, 0, 0), bias: bool = True, then: Sequence[Any] = ()) -> Any:
    """image → scaling → convolution of eight channels → `then`, from "first" to "last" → average → softmax."""
    draw = np.random.default_rng(0).normal
    values = {
        "scale": np.float32(1 / 127.5),
        "one": np.float32(1),
        "means": np.array([103.939, 116.779, 123.68], np.float32),
        "deviations": np.array([58.4, 57.1, 57.4], np.float32),
        "map": draw(size=(SIZE_PX, SIZE_PX, 1)).astype(np.float32),
        "last": np.array([3]),
        **{f"at{channel}": np.array([channel]) for channel in range(4)},
        "weights": draw(size=(8, 3, 3, 3)).astype(np.float32) / 100,
        "bias": draw(size=8).astype(np.float32),
        "narrowing": draw(size=(4, 8, 1, 1)).astype(np.float32),
        "narrowing_bias": draw(size=4).astype(np.float32),
        "same": np.array([-1, 8, 1, 1]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        *scaling,
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights", *(["bias"] if bias else [])], ["first" if then else "seen"], pads=pads),
        *then,
        helper.make_node("GlobalAveragePool", ["seen"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "same"], ["reshaped"]) if not then else helper.make_node("Relu", ["pooled"], ["reshaped"]),
        helper.make_node("Flatten", ["reshaped"], ["features"]),
        helper.make_node("Softmax", ["features"], ["probabilities"]),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4 if then else 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Any) -> npt.NDArray[np.float32]:
    images: Pixels = np.random.default_rng(1).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    images[0], images[1] = 0, 255
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.float32] = session.run(["probabilities"], {"image": images})[0]
    return found


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaling", [TF, TORCH, CAFFE], ids=["tf", "torch", "caffe"])
def test_scaling_and_channel_order_go_into_a_convolution_without_padding(scaling: Nodes, bias: bool) -> None:
    model = network(scaling, bias=bias)
    folded = fold(model)
    assert operators(folded)[:3] == ["Transpose", "Cast", "Conv"]
    assert not {"Mul", "Sub", "Div", "Slice", "Concat"} & set(operators(folded))
    np.testing.assert_allclose(run(folded), run(model), atol=2e-6)


@pytest.mark.parametrize("scaling", [TF, TORCH, CAFFE], ids=["tf", "torch", "caffe"])
def test_before_a_padded_convolution_only_the_centre_is_left_to_subtract(scaling: Nodes) -> None:
    model = network(scaling, pads=(1, 0, 2, 1))
    folded = fold(model)
    assert operators(folded)[:4] == ["Transpose", "Cast", "Sub", "Conv"]
    assert operators(folded).count("Sub") == 1
    np.testing.assert_allclose(run(folded), run(model), atol=2e-6)


def test_the_centre_of_tensorflows_scaling_is_one_exact_number() -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in fold(network(TF, pads=(1, 1, 1, 1))).graph.initializer}
    assert constants["pixel_centre"] == 127.5


@pytest.mark.parametrize("scaling", [SQUARED, PLACED], ids=["not affine", "another one each place"])
def test_what_is_no_affine_function_of_the_pixel_stays_as_it_is(scaling: Nodes) -> None:
    model = network(scaling)
    assert "Mul" in operators(fold(model))
    np.testing.assert_array_equal(run(fold(model)), run(model))


def pool_then_narrow(**attributes: object) -> Nodes:
    return [
        helper.make_node("AveragePool", ["first"], ["averaged"], kernel_shape=[3, 3], **attributes),
        helper.make_node("Conv", ["averaged", "narrowing", "narrowing_bias"], ["seen"]),
    ]


@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"count_include_pad": 1}], ids=str)
def test_an_average_pool_goes_behind_the_narrowing_convolution_that_reads_it(attributes: dict[str, object]) -> None:
    model = network(TF, then=pool_then_narrow(**attributes))
    folded = fold(model)
    assert operators(model)[-6:-4] == ["AveragePool", "Conv"]
    assert operators(folded)[-6:-4] == ["Conv", "AveragePool"]
    np.testing.assert_allclose(run(folded), run(model), atol=2e-6)


def test_a_pool_that_counts_its_padding_stays_before_the_convolution_whose_bias_it_would_thin() -> None:
    model = network(TF, then=pool_then_narrow(pads=[1, 1, 1, 1], count_include_pad=1))
    assert operators(fold(model))[-6:-4] == ["AveragePool", "Conv"]
    np.testing.assert_allclose(run(fold(model)), run(model), atol=2e-6)


def test_a_pool_that_others_read_too_stays_where_it_is() -> None:
    others = [helper.make_node("GlobalAveragePool", ["averaged"], ["aside"]), helper.make_node("ReduceMean", ["aside"], ["mean"], axes=[1])]
    both = [*pool_then_narrow()[:1], *others, helper.make_node("Conv", ["averaged", "narrowing"], ["narrow"])]
    model = network(TF, then=[*both, helper.make_node("Add", ["narrow", "mean"], ["seen"])])
    found = operators(fold(model))
    assert found.index("AveragePool") < found.index("Conv", found.index("AveragePool"))
    np.testing.assert_allclose(run(fold(model)), run(model), atol=2e-6)


def test_a_reshape_to_the_same_shape_goes() -> None:
    model = network(TF)
    assert "Reshape" in operators(model)
    assert "Reshape" not in operators(fold(model))


def test_the_folded_model_is_a_copy_and_holds_no_constant_that_nobody_reads() -> None:
    model = network(CAFFE)
    before = model.SerializeToString()
    folded = fold(model)
    assert model.SerializeToString() == before
    assert {tensor.name for tensor in folded.graph.initializer} <= {name for node in folded.graph.node for name in node.input}
