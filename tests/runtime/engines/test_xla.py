"""The engine XLA on the CPU, where the same code runs; what opens it on a GPU is tested up to the GPU that is not there."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.quantize import halved
from cellclf.data.decoding import Pixels
from cellclf.errors import CellclfError, InferenceError, MissingExtraError, ModelFileError, ProviderUnavailableError
from cellclf.runtime.engines.xla import BUCKETS, XlaSession
from cellclf.runtime.probe import PROBE_MODEL, probe_providers
from cellclf.runtime.providers import MEMORY_VARIABLE, PROVIDERS, Target, gpu_count
from cellclf.runtime.session import open_session

jax = pytest.importorskip("jax", reason="the extra xla is not installed")

WAYS: list[dict[str, str]] = [{}, {"pointwise": "dot"}, {"strided": "shifted"}, {"graph": "whole"}]


def on_cpu(content: bytes, options: dict[str, str] | None = None) -> XlaSession:
    return XlaSession(content, Target(PROVIDERS["xla"]), jax.devices("cpu")[0], options or {})


@pytest.fixture(scope="module")
def images(images: Pixels) -> Pixels:
    """Fewer: each batch size is compiled."""
    return images[:9]


@pytest.fixture(scope="module")
def expected(expected: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return expected[:9]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_way_gives_the_numbers_of_onnx_runtime(
    options: dict[str, str], content: bytes, images: Pixels, expected: npt.NDArray[np.float32]
) -> None:
    found = on_cpu(content, options).run(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_fp16_file_is_computed_in_fp16(content: bytes, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    import onnx

    session = on_cpu(halved(onnx.load_from_string(content)).SerializeToString())
    assert {str(weight.dtype) for weight in session._weights.values()} == {"float16"}
    found = session.run(images)
    assert found.dtype == np.float32
    assert 1e-5 < float(np.abs(found - expected).max()) < 0.02


@pytest.mark.parametrize("count", [1, 3, 8])
def test_batches_of_any_size_give_a_row_an_image(count: int, content: bytes, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    session = on_cpu(content)
    np.testing.assert_allclose(session.run(images[:count]), expected[:count], atol=1e-5)


def test_more_images_than_the_largest_bucket_are_cut(monkeypatch: pytest.MonkeyPatch, content: bytes, images: Pixels) -> None:
    monkeypatch.setattr("cellclf.runtime.engines.xla.BUCKETS", (1, 4))
    session = on_cpu(content)
    sizes: list[int] = []
    call = session.call

    def noted(batch: Any) -> Any:
        sizes.append(len(batch))
        return call(batch)

    monkeypatch.setattr(session, "call", noted)
    assert session.run(images).shape == (9, 4)
    assert sizes == [4, 4, 1]
    assert BUCKETS[0] == 1


@pytest.mark.parametrize("wrong", [(0, slice(None)), (2, slice(0, 100))], ids=["none", "another height"])
def test_images_of_another_shape_are_refused_although_xla_would_compile_for_them(wrong: tuple[int, slice], content: bytes, images: Pixels) -> None:
    count, rows = wrong
    with pytest.raises(InferenceError, match=r"XLA:CPU wants uint8 images of shape \[192, 192, 3\], at least one; given uint8"):
        on_cpu(content).run(images[:count, rows])
    with pytest.raises(InferenceError, match="given float32"):
        on_cpu(content).run(images[:1].astype(np.float32))


def test_the_probe_gives_its_numbers() -> None:
    np.testing.assert_array_equal(on_cpu(PROBE_MODEL).run(np.array([0, 7, 255], dtype=np.uint8)), [0, 7, 255])


Node = tuple[str, list[str], dict[str, Any]]


def network(nodes: Sequence[Node], constants: dict[str, npt.NDArray[Any]] | None = None, *, opset: int = 17, batch: str | int = "batch") -> bytes:
    """image → float, channels first → the nodes, each named by its place (n0, n1, …; start: what they are given) → probabilities."""
    made = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["start"], perm=[0, 3, 1, 2]),
    ]
    for place, (kind, inputs, attributes) in enumerate(nodes):
        made.append(helper.make_node(kind, inputs, [f"n{place}" if place < len(nodes) - 1 else "probabilities"], **attributes))
    graph = helper.make_graph(
        made,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 9, 9, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made_model.SerializeToString())


def random(*shape: int) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = (np.random.default_rng(len(shape) + sum(shape)).normal(size=shape) / 100).astype(np.float32)
    return values


def number(value: float) -> npt.NDArray[np.float32]:
    return np.array(value, dtype=np.float32)


def axes(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


CONV = {"kernel_shape": [3, 3]}
GRAPHS: dict[str, tuple[Sequence[Node], dict[str, npt.NDArray[Any]]]] = {
    "convolution, stride and uneven padding": (
        [("Conv", ["start", "w", "b"], {**CONV, "strides": [2, 2], "pads": [0, 0, 1, 1]})],
        {"w": random(5, 3, 3, 3), "b": random(5)},
    ),
    "convolution, dilated": ([("Conv", ["start", "w"], {**CONV, "dilations": [2, 2], "pads": [2, 2, 2, 2]})], {"w": random(5, 3, 3, 3)}),
    "convolution, SAME_UPPER": ([("Conv", ["start", "w"], {**CONV, "auto_pad": "SAME_UPPER", "strides": [2, 2]})], {"w": random(5, 3, 3, 3)}),
    "convolution, SAME_LOWER": (
        [("Conv", ["start", "w"], {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]})],
        {"w": random(5, 3, 2, 2)},
    ),
    "convolution, VALID": ([("Conv", ["start", "w"], {**CONV, "auto_pad": "VALID"})], {"w": random(5, 3, 3, 3)}),
    "convolution, pointwise with a stride": (
        [("Conv", ["start", "w", "b"], {"kernel_shape": [1, 1], "strides": [2, 2]})],
        {"w": random(6, 3, 1, 1), "b": random(6)},
    ),
    "convolution, grouped": ([("Conv", ["start", "w"], {**CONV, "group": 3})], {"w": random(6, 1, 3, 3)}),
    "depthwise with a stride": (
        [("Conv", ["start", "w", "b"], {**CONV, "group": 3, "strides": [2, 2], "pads": [0, 1, 1, 0]})],
        {"w": random(3, 1, 3, 3), "b": random(3)},
    ),
    "max pool, padded": ([("MaxPool", ["start"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})], {}),
    "average pool, padding not counted": ([("AveragePool", ["start"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})], {}),
    "average pool, padding counted": (
        [("AveragePool", ["start"], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1})],
        {},
    ),
    "convolution, pointwise and grouped": ([("Conv", ["start", "w"], {"kernel_shape": [1, 1], "group": 3})], {"w": random(6, 1, 1, 1)}),
    "depthwise, dilated with a stride": (
        [("Conv", ["start", "w"], {**CONV, "group": 3, "strides": [2, 2], "dilations": [2, 2]})],
        {"w": random(3, 1, 3, 3)},
    ),
    "depthwise, two outputs a channel, with a stride": (
        [("Conv", ["start", "w"], {**CONV, "group": 3, "strides": [2, 2]})],
        {"w": random(6, 1, 3, 3)},
    ),
    "clip": ([("Clip", ["start", "low", "high"], {})], {"low": number(10), "high": number(90)}),
    "clip without a lower bound": ([("Clip", ["start", "", "high"], {})], {"high": number(90)}),
    "a constant a channel": ([("Mul", ["start", "c"], {}), ("Sub", ["n0", "d"], {})], {"c": random(3, 1, 1), "d": random(1, 3, 1, 1)}),
    "a residual sum": ([("Relu", ["start"], {}), ("Add", ["start", "n0"], {})], {}),
    "side by side": ([("Relu", ["start"], {}), ("Concat", ["start", "n0"], {"axis": 1}), ("Concat", ["n1", "n1"], {"axis": 2})], {}),
    "a softmax over channels": ([("Softmax", ["start"], {"axis": 1})], {}),
    "flattened further": ([("Flatten", ["start"], {"axis": 2}), ("Reshape", ["n0", "shape"], {})], {"shape": axes(-1, 3, 81)}),
    "a transposed left operand": (
        [
            ("Reshape", ["start", "shape"], {}),
            ("Transpose", ["n0"], {"perm": [1, 0]}),
            ("Gemm", ["n1", "w"], {"transA": 1}),
        ],
        {"shape": axes(-1, 243), "w": random(243, 4)},
    ),
    "a product with the image on the right": ([("MatMul", ["w", "start"], {})], {"w": random(5, 9)}),
    "turned twice": ([("Transpose", ["start"], {"perm": [0, 2, 3, 1]}), ("Transpose", ["n0"], {"perm": [0, 2, 3, 1]})], {}),
    "swish": ([("Sigmoid", ["start"], {}), ("Mul", ["start", "n0"], {}), ("Identity", ["n1"], {})], {}),
    "flattened in the graph's own order": ([("Flatten", ["start"], {}), ("MatMul", ["n0", "w"], {})], {"w": random(243, 4)}),
    "reshaped in the graph's own order": (
        [("Reshape", ["start", "shape"], {}), ("Gemm", ["n0", "w", "b"], {"transB": 1, "alpha": 0.5, "beta": 2.0})],
        {"shape": axes(0, -1), "w": random(4, 243), "b": random(4)},
    ),
    "a head": (
        [
            ("GlobalAveragePool", ["start"], {}),
            ("Squeeze", ["n0", "axes"], {}),
            ("MatMul", ["n1", "w"], {}),
            ("Div", ["n2", "ten"], {}),
            ("Softmax", ["n3"], {"axis": 1}),
        ],
        {"axes": axes(2, 3), "w": random(3, 4), "ten": number(10)},
    ),
    "backwards": (
        [
            ("Slice", ["start", "last", "first", "axes", "step"], {}),
            ("Concat", ["n0", "start"], {"axis": 3}),
            ("ReduceMean", ["n1"], {"axes": [1], "keepdims": 0}),
        ],
        {"last": axes(-1, -1), "first": axes(-(2**63), -(2**63)), "axes": axes(2, 3), "step": axes(-1, -1)},
    ),
    "a part": (
        [("Slice", ["start", "from", "to", "axes", "step"], {})],
        {"from": axes(1, 8), "to": axes(2**40, 2), "axes": axes(-1, 2), "step": axes(2, -3)},
    ),
    "a part of the first axes": ([("Slice", ["start", "from", "to"], {})], {"from": axes(0, 1), "to": axes(9, 3)}),
    "a mean": ([("ReduceMean", ["start"], {"axes": [2, 3], "keepdims": 0})], {}),
    "turned back": ([("Relu", ["start"], {}), ("Transpose", ["n0"], {"perm": [0, 2, 3, 1]})], {}),
    "turned otherwise": ([("Transpose", ["start"], {"perm": [0, 2, 1, 3]})], {}),
    "half precision and back": ([("Cast", ["start"], {"to": TensorProto.FLOAT16}), ("Cast", ["n0"], {"to": TensorProto.FLOAT})], {}),
}


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_an_operator_means_what_onnx_says(name: str, options: dict[str, str]) -> None:
    made = network(*GRAPHS[name])
    images = np.random.default_rng(1).integers(0, 256, size=(4, 9, 9, 3), dtype=np.uint8)
    expected = open_session(made, device="cpu", threads=1).run(images)
    found = on_cpu(made, options).run(np.concatenate([images, images]))
    assert found.shape == (8, *expected.shape[1:])
    np.testing.assert_allclose(found[4:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "constants", "said"),
    [
        ([("Elu", ["start"], {}), ("Sin", ["n0"], {})], {}, "XLA has no way to compute Elu, Sin here; use --device cuda"),
        ([("MaxPool", ["start"], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})], {}, "no way to compute this pool"),
        (
            [("Reshape", ["start", "shape"], {}), ("MatMul", ["n0", "w"], {}), ("Add", ["n1", "w"], {})],
            {"shape": axes(0, -1), "w": random(243, 4)},
            "use --device cuda",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(nodes: Sequence[Node], constants: dict[str, npt.NDArray[Any]], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        on_cpu(network(nodes, constants)).run(np.zeros((1, 9, 9, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("nodes", "constants", "said"),
    [
        ([("Identity", ["w"], {}), ("Conv", ["start", "n0"], CONV)], {"w": random(3, 3, 3, 3)}, "a convolution whose weight is computed"),
        ([("Cast", ["w"], {"to": TensorProto.FLOAT}), ("Conv", ["start", "n0"], CONV)], {"w": random(3, 3, 3, 3)}, "whose weight is computed"),
        ([("Conv", ["start", "w"], CONV), ("Mul", ["n0", "w"], {})], {"w": random(3, 3, 3, 3)}, "a weight of Conv that Mul reads, too"),
        ([("MaxPool", ["start"], {"kernel_shape": [2, 2], "dilations": [2, 2]})], {}, "no way to compute this pool"),
        ([("AveragePool", ["start"], {"kernel_shape": [2, 2], "ceil_mode": 1})], {}, "no way to compute this pool"),
        ([("Cast", ["start"], {"to": TensorProto.INT32}), ("Div", ["n0", "n0"], {})], {}, "a cast to int32"),
        ([("Cast", ["start"], {"to": TensorProto.DOUBLE})], {}, "a cast to float64"),
        ([("Mul", ["start", "c"], {})], {"c": np.ones((3, 1, 1))}, "constants of type float64"),
        ([("Add", ["start", "c"], {})], {"c": axes(1)}, "arithmetic of int64"),
        ([("Squeeze", ["start"], {})], {}, "a squeeze that does not name its axes"),
        ([("Softmax", ["start"], {"beta": 2})], {}, "Softmax with beta"),
        ([("Reshape", ["start", "shape"], {}), ("GlobalAveragePool", ["n0"], {})], {"shape": axes(0, 3, 81)}, "an image operator on 3 dimensions"),
        ([("GlobalAveragePool", ["start"], {}), ("Reshape", ["n0", "shape"], {})], {"shape": axes(3, -1)}, "for 2 images the network gives float32"),
        ([("Reshape", ["start", "shape"], {})], {"shape": axes(0, 7)}, "XLA cannot compute the network: "),
    ],
)
def test_what_could_mean_something_else_is_refused(nodes: Sequence[Node], constants: dict[str, npt.NDArray[Any]], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        on_cpu(network(nodes, constants))


@pytest.mark.parametrize("opset", [12, 18])
def test_another_opset_is_refused(opset: int) -> None:
    with pytest.raises(ModelFileError, match=f"opset {opset}, only 13 to 17, here"):
        on_cpu(network([("Relu", ["start"], {})], opset=opset))


def test_an_operator_of_another_domain_is_refused_whatever_its_name() -> None:
    import onnx

    model = onnx.load_from_string(network([("Relu", ["start"], {})]))
    model.graph.node[-1].domain = "my.domain"
    with pytest.raises(ModelFileError, match=r"no way to compute my\.domain::Relu"):
        on_cpu(model.SerializeToString())


def test_a_second_output_is_refused() -> None:
    import onnx

    model = onnx.load_from_string(network([("MaxPool", ["start"], {"kernel_shape": [2, 2]}), ("Cast", ["places"], {"to": TensorProto.FLOAT})]))
    model.graph.node[-2].output.append("places")
    with pytest.raises(ModelFileError, match="a second output of MaxPool"):
        on_cpu(model.SerializeToString())


def test_a_fixed_batch_would_be_changed_by_padding_and_is_refused() -> None:
    with pytest.raises(ModelFileError, match="a file of a fixed batch size"):
        on_cpu(network([("Relu", ["start"], {})], batch=1))


def test_what_is_no_network_is_a_model_file_error() -> None:
    with pytest.raises(ModelFileError, match="it is no ONNX file"):
        on_cpu(b"not a network")
    with pytest.raises(ModelFileError, match="no input image or no output probabilities"):
        on_cpu(network([("Relu", ["start"], {})]).replace(b"probabilities", b"probabilitiez"))


def test_an_int8_file_is_refused_by_its_operators() -> None:
    made = network(
        [("QuantizeLinear", ["start", "scale", "zero"], {}), ("DequantizeLinear", ["n0", "scale", "zero"], {})],
        {"scale": number(1), "zero": np.array(0, dtype=np.uint8)},
    )
    with pytest.raises(ModelFileError, match="no way to compute DequantizeLinear, QuantizeLinear"):
        on_cpu(made)


def test_what_the_probabilities_do_not_need_is_not_asked_for(images: Pixels) -> None:
    nodes: list[Node] = [("Sin", ["start"], {}), ("Relu", ["start"], {})]
    assert on_cpu(network(nodes)).run(images[:1, :9, :9]).shape == (1, 3, 9, 9)


def test_an_unknown_way_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="there is no way graph=fast: usual, whole"):
        on_cpu(content, {"graph": "fast"})


@pytest.mark.parametrize("variant", PROVIDERS["xla"].variants, ids=str)
def test_the_table_names_ways_that_there_are(variant: dict[str, str], content: bytes) -> None:
    assert on_cpu(content, dict(variant)).provider == "XLA:CPU"


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["xla", "xla:1"])
def test_without_a_gpu_it_is_an_error_and_no_slow_run(device: str, content: bytes) -> None:
    with pytest.raises(ProviderUnavailableError, match=r"device xla: no NVIDIA GPU.*use --device cpu"):
        open_session(content, device=device, threads=1)
    states = {state.name: state for state in probe_providers()}
    assert not states["xla"].works
    assert "no NVIDIA GPU" in states["xla"].reason


@pytest.mark.parametrize("package", ["jax", "onnx"])
def test_without_its_packages_the_extra_is_named(package: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellclf.runtime.engines.xla.gpu_count", lambda: 1)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"device xla needs.*pip install 'cellclf\[xla\]'"):
        open_session(content, device="xla", threads=1)


def test_a_limit_of_memory_that_it_would_not_keep_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "2048")
    with pytest.raises(CellclfError, match=f"XLA takes no {MEMORY_VARIABLE}"):
        open_session(content, device="xla", threads=1)


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
def test_a_jax_without_cuda_is_named(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellclf.runtime.engines.xla.gpu_count", lambda: 1)
    with pytest.raises(ProviderUnavailableError, match=r"device xla: this JAX has no CUDA; pip install 'cellclf\[xla\]'"):
        open_session(content, device="xla", threads=1)
