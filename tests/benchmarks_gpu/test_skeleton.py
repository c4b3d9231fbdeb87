"""Networks without weights, and what they must at least compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra train)")

from benchmarks.gpu.skeleton import calibrated_scales, cpu_session, fill, read_skeleton, strip, weight_names, write_skeleton  # noqa: E402
from benchmarks.gpu.work import layers_of, multiply_adds, roofline  # noqa: E402


def small_graph() -> Any:
    """image 8 × 8 → two convolutions with a shortcut → average → 4 classes."""
    make = onnx.helper.make_node
    nodes = [
        make("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        make("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "w1", "b1"], ["first"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        make("Relu", ["first"], ["positive"]),
        make("Conv", ["positive", "w2"], ["second"], kernel_shape=[1, 1]),
        make("Add", ["second", "positive"], ["sum"]),
        make("GlobalAveragePool", ["sum"], ["average"]),
        make("Reshape", ["average", "flat"], ["features"]),
        make("MatMul", ["features", "w3"], ["logits"]),
        make("Softmax", ["logits"], ["probabilities"]),
    ]
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 1, 1), "w3": (16, 4)}
    held = [onnx.numpy_helper.from_array(np.ones(shape, dtype=np.float32), name) for name, shape in shapes.items()]
    held.append(onnx.numpy_helper.from_array(np.zeros(16, dtype=np.float32), "b1"))
    held.append(onnx.numpy_helper.from_array(np.array([-1, 16]), "flat"))
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 8, 8, 3])
    out = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 4])
    graph = onnx.helper.make_graph(nodes, "small", [image], [out], held)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


IMAGES = np.random.default_rng(0).integers(0, 256, size=(2, 8, 8, 3), dtype=np.uint8)


def test_a_skeleton_keeps_shapes_and_loses_weights(tmp_path: Path) -> None:
    model = small_graph()
    assert weight_names(model) == ["w1", "w2", "w3"]
    write_skeleton(strip(model, dict.fromkeys(weight_names(model), 0.1)), tmp_path / "small.onnx.gz")
    bare = {tensor.name: tensor for tensor in read_skeleton(tmp_path / "small.onnx.gz").graph.initializer}
    assert not bare["w1"].raw_data
    assert tuple(bare["w1"].dims) == (16, 3, 3, 3)
    assert bare["flat"].raw_data


def test_filling_gives_the_same_weights_every_time_and_others_for_another_seed() -> None:
    skeleton = strip(small_graph(), {"w1": 0.1, "w2": 0.2, "w3": 0.3})
    first, again, other = fill(skeleton), fill(skeleton), fill(skeleton, seed=1)
    assert first.SerializeToString() == again.SerializeToString()
    assert first.SerializeToString() != other.SerializeToString()
    values = onnx.numpy_helper.to_array(next(tensor for tensor in first.graph.initializer if tensor.name == "w2"))
    assert values.std() == pytest.approx(0.2, rel=0.2)


def test_calibrated_weights_keep_every_layer_s_outputs_near_one() -> None:
    model = small_graph()
    scales = calibrated_scales(model, IMAGES)
    filled = fill(strip(model, scales))
    for name in ("first", "second", "logits"):
        filled.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    values = cpu_session(filled)(["first", "second", "logits"], IMAGES)
    assert [0.7 < value.std() < 1.4 for value in values] == [True, True, True]


def test_multiply_adds_and_bytes_are_those_counted_by_hand() -> None:
    model = strip(small_graph(), {"w1": 1.0, "w2": 1.0, "w3": 1.0})
    assert multiply_adds(model) == 64 * 16 * 27 + 64 * 16 * 16 + 16 * 4
    elements = {layer.multiply_adds: layer.elements for layer in layers_of(model) if layer.multiply_adds}
    assert elements[64 * 16 * 27] == 64 * 3 + 64 * 16
    assert elements[64 * 16 * 16] == 2 * 64 * 16


def test_the_roofline_is_arithmetic_where_memory_is_fast_and_bytes_where_it_is_slow() -> None:
    model = small_graph()
    work = 2 * multiply_adds(model)
    fast = roofline(model, tflops=1.0, bytes_per_second=1e18, batch=8)
    assert fast.images_per_second == pytest.approx(1e12 / work)
    slow = roofline(model, tflops=1e9, bytes_per_second=1e9, batch=8)
    assert slow.images_per_second == pytest.approx(1e9 / slow.bytes_per_image)
    assert slow.layer_by_layer <= slow.images_per_second
