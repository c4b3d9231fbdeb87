"""The closed form in the graph against Grad-CAM by TensorFlow's own gradients."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from cellclf.artifact.convert import to_onnx
from cellclf.artifact.heatmaps import HEATMAPS, dense_weights, feature_map_size, with_heatmaps
from cellclf.artifact.precisions import PRECISIONS
from cellclf.backbones import BACKBONES
from cellclf.data.prepare import DataRequest
from cellclf.errors import CellclfError
from cellclf.training.network import build_network, scale_pixels
from cellclf.training.recipe import make_recipe

SIZE_PX = 64
CLASSES = 3


def network_of(backbone: str, hidden: tuple[int, ...], size_px: int = SIZE_PX) -> Any:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(5)
    recipe = make_recipe(backbone, DataRequest(data="sample"), image_size_px=size_px, weights="none", hidden=hidden, batch_norm_momentum=0.1)
    network = build_network(recipe, classes=CLASSES, weights=None, steps_per_epoch=1).whole
    generator = np.random.default_rng(1)
    for layer in network.get_layer("head").layers:
        if layer.get_weights():  # large ones, so that labels differ and some units sleep
            layer.set_weights([generator.normal(size=values.shape).astype(np.float32) for values in layer.get_weights()])
    for _ in range(3):  # batch norm sees what really comes, or a random network's values fade away
        network(pictures(16, size_px), training=True)
    return network


def pictures(count: int, size_px: int = SIZE_PX) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def grad_cam(network: Any, backbone: str, images: npt.NDArray[np.uint8], label: int) -> npt.NDArray[np.float32]:
    """Selvaraju et al. 2017 with GradientTape: [batch, rows, columns]."""
    import keras
    import tensorflow as tf

    head = network.get_layer("head")
    whole = next(part for part in network.layers if hasattr(part, "layers") and part is not head)
    pool = whole.layers[-1]
    scaled = scale_pixels(keras, tf.cast(images, tf.float32), BACKBONES[backbone].scaling)
    maps = keras.Model(whole.input, pool.input)(scaled, training=False)
    scores = keras.Model(head.input, head.layers[-1].input)
    kernel, bias = head.layers[-1].get_weights()
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = (tf.matmul(scores(pool(maps), training=False), kernel) + bias)[:, label]
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    return np.asarray(tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)))


def run(model: Any, images: npt.NDArray[np.uint8], *outputs: str) -> list[npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[npt.NDArray[np.float32]] = session.run(list(outputs), {"image": images})
    return found


HEADS = {"mobilenet025": (8, 8), "mobilenetv2": ()}
"""Of the backbones that are quick to convert; the others have the studies' head."""

EACH = [pytest.param(name, HEADS.get(name, (16,)), marks=[] if name in HEADS else [pytest.mark.slow], id=name) for name in BACKBONES]


@pytest.mark.parametrize(("backbone", "hidden"), EACH)
def test_the_maps_are_grad_cams(backbone: str, hidden: tuple[int, ...]) -> None:
    size_px = max(SIZE_PX, BACKBONES[backbone].min_image_size_px)
    network = network_of(backbone, hidden, size_px)
    images = pictures(3, size_px)
    plain = to_onnx(network)
    (before,) = run(plain, images, "probabilities")
    size = feature_map_size(network)
    probabilities, found = run(with_heatmaps(plain, dense_weights(network), size), images, "probabilities", HEATMAPS)

    assert np.array_equal(probabilities, before)
    assert found.shape == (3, CLASSES, *size)
    for label in range(CLASSES):
        expected = grad_cam(network, backbone, images, label)
        assert found[:, label] == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(found.max()))  # two runtimes, up to 130 layers
    assert found.max() > 0


@pytest.mark.parametrize(("precision", "allowed"), [("fp16", 0.1), ("int8", 0.3)])
def test_coarser_files_have_them_too(precision: str, allowed: float) -> None:
    network = network_of("mobilenet025", (8,))
    images = pictures(4)
    weights, size = dense_weights(network), feature_map_size(network)
    exact = run(with_heatmaps(to_onnx(network), weights, size), images, HEATMAPS)[0]
    coarse = run(with_heatmaps(PRECISIONS[precision].convert(to_onnx(network), images), weights, size), images, HEATMAPS)[0]

    assert np.abs(coarse - exact).mean() < allowed * exact.mean()


def test_another_head_is_refused() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])
    nodes = [helper.make_node("Tanh", ["image"], ["t"]), helper.make_node("Softmax", ["t"], ["probabilities"])]
    model = helper.make_model(helper.make_graph(nodes, "odd", [image], [out]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    with pytest.raises(CellclfError, match="Tanh"):
        with_heatmaps(model, [np.zeros((4, 4), np.float32)], (1, 1))
