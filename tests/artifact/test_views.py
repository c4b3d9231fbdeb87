"""Test-time augmentation in the graph: against the one-view graph run on images that NumPy turned, and against Keras."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.convert import divide_logits, to_onnx
from cellclf.artifact.heatmaps import HEATMAPS, dense_weights, feature_map_size, with_heatmaps
from cellclf.artifact.precisions import PRECISIONS
from cellclf.artifact.views import with_views
from cellclf.data.prepare import DataRequest
from cellclf.errors import CellclfError, UnknownNameError
from cellclf.training.network import Network, build_network
from cellclf.training.recipe import make_recipe
from cellclf.training.tta import TTAS, Turn
from tests.artifact.test_heatmaps import pictures, run

SIZE_PX, CLASSES = 64, 3
Images = npt.NDArray[np.uint8]


def network_of(tta: str, hidden: tuple[int, ...] = (8,)) -> Network:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(5)
    recipe = make_recipe(
        "mobilenet025", DataRequest(data="sample"), image_size_px=SIZE_PX, weights="none", hidden=hidden, batch_norm_momentum=0.1, tta=tta
    )
    network = build_network(recipe, classes=CLASSES, weights=None, steps_per_epoch=1)
    generator = np.random.default_rng(1)
    for layer in network.head.layers:
        if layer.get_weights():
            layer.set_weights([generator.normal(scale=0.5, size=values.shape).astype(np.float32) for values in layer.get_weights()])
    for _ in range(3):
        network.whole(pictures(16, SIZE_PX), training=True)
    return network


def laid(values: npt.NDArray[Any], turn: Turn, axes: tuple[int, int] = (1, 2)) -> npt.NDArray[Any]:
    values = np.swapaxes(values, *axes) if turn.transposed else values
    values = np.flip(values, axes[0]) if turn.rows_reversed else values
    return np.ascontiguousarray(np.flip(values, axes[1]) if turn.columns_reversed else values)


def mean_answer(model: Any, images: Images, views: tuple[Turn, ...]) -> npt.NDArray[np.float64]:
    """softmax of the mean score: the geometric mean of the views' probabilities, made to add up to 1."""
    each = [run(model, laid(images, turn), "probabilities")[0].astype(np.float64) for turn in views]
    mean = np.exp(np.mean(np.log(each), axis=0))
    found: npt.NDArray[np.float64] = mean / mean.sum(axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("turn", TTAS["turns-mirror"].views, ids=str)
def test_the_inverse_undoes_a_turn(turn: Turn) -> None:
    image = np.arange(2 * 9 * 3).reshape(2, 3, 3, 3)
    np.testing.assert_array_equal(laid(laid(image, turn), turn.inverse), image)


def test_the_rows_are_the_turns_and_mirror_images_of_a_square() -> None:
    image = np.arange(16).reshape(1, 4, 4)
    turned = {laid(image, turn).tobytes() for turn in TTAS["turns"].views}
    assert turned == {np.ascontiguousarray(np.rot90(image, quarter, axes=(1, 2))).tobytes() for quarter in range(4)}
    both = {laid(image, turn).tobytes() for turn in TTAS["turns-mirror"].views}
    assert len(both) == 8 and turned < both
    assert {laid(image, turn).tobytes() for turn in TTAS["mirror"].views} == {image.tobytes(), np.ascontiguousarray(image[:, :, ::-1]).tobytes()}
    assert all(row.views[0] == Turn() for row in TTAS.values())


@pytest.mark.parametrize("tta", [name for name in TTAS if name != "none"])
@pytest.mark.parametrize("hidden", [(8,), ()], ids=["hidden", "linear"])
def test_the_graph_and_keras_average_the_scores_of_the_views(tta: str, hidden: tuple[int, ...]) -> None:
    network, images = network_of(tta, hidden), pictures(3, SIZE_PX)
    plain = to_onnx(network.whole)
    expected = mean_answer(plain, images, TTAS[tta].views)
    assert np.abs(expected - run(plain, images, "probabilities")[0]).max() > 1e-3, "else the test could not fail"
    model = with_views(plain, TTAS[tta])
    for count in (1, 3):
        np.testing.assert_allclose(run(model, images[:count], "probabilities")[0], expected[:count], atol=1e-5)
    np.testing.assert_allclose(np.asarray(network.answers(images, training=False)), expected, atol=1e-5)


def test_one_view_changes_nothing() -> None:
    network = network_of("none")
    assert network.answers is network.whole
    model = to_onnx(network.whole)
    before = model.SerializeToString()
    assert with_views(model, TTAS["none"]).SerializeToString() == before


def test_a_temperature_divides_the_mean_score() -> None:
    network, images = network_of("turns"), pictures(2, SIZE_PX)
    before = np.asarray(network.answers(images, training=False), dtype=np.float64)
    divide_logits(network.whole, 2.0)
    expected = np.sqrt(before) / np.sqrt(before).sum(axis=1, keepdims=True)
    found = run(with_views(to_onnx(network.whole), TTAS["turns"]), images, "probabilities")[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tta", ["mirror", "turns-mirror"])
def test_heat_maps_are_turned_back_and_averaged_in_every_precision(precision: str, tta: str) -> None:
    network, images = network_of(tta), pictures(3, SIZE_PX)
    views = TTAS[tta].views
    plain = PRECISIONS[precision].convert(to_onnx(network.whole), pictures(8, SIZE_PX))
    plain = with_heatmaps(plain, dense_weights(network.whole), feature_map_size(network.whole))
    maps = [laid(run(plain, laid(images, turn), HEATMAPS)[0], turn.inverse, (2, 3)) for turn in views]
    answers = mean_answer(plain, images, views)
    assert max(np.abs(each - maps[0]).max() for each in maps) > 1e-3, "else the test could not fail"
    model = with_views(plain, TTAS[tta])
    probabilities, found = run(model, images, "probabilities", HEATMAPS)
    rounding = {"fp32": 1e-4, "fp16": 2e-2, "int8": 1e-4}[precision]
    np.testing.assert_allclose(found, np.mean(maps, axis=0), atol=rounding * max(1.0, float(np.abs(maps).max())))
    np.testing.assert_allclose(probabilities, answers, atol=max(rounding, 1e-3))
    assert [value.name for value in model.graph.output] == ["probabilities", HEATMAPS]


def test_a_network_that_ends_otherwise_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT), helper.make_node("Sigmoid", ["float"], ["probabilities"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    with pytest.raises(CellclfError, match="needs a dense layer before the softmax; this network has Sigmoid"):
        with_views(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), TTAS["turns"])


def test_the_batch_stays_free_and_the_graph_checks() -> None:
    model = with_views(to_onnx(network_of("turns").whole), TTAS["turns"])
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_an_unknown_one_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown test-time augmentation 'turn'; did you mean turns"):
        make_recipe("mobilenet025", DataRequest(data="sample"), tta="turn")


def test_xla_gives_the_same_answer() -> None:
    jax = pytest.importorskip("jax", reason="the extra xla is not installed")
    from cellclf.runtime.engines.xla import XlaSession
    from cellclf.runtime.providers import PROVIDERS, Target

    model, images = with_views(to_onnx(network_of("turns-mirror").whole), TTAS["turns-mirror"]), pictures(5, SIZE_PX)
    session = XlaSession(model.SerializeToString(), Target(PROVIDERS["xla"]), jax.devices("cpu")[0], {})
    np.testing.assert_allclose(session.run(images), run(model, images, "probabilities")[0], atol=1e-5)
