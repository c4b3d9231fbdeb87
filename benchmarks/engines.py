"""ENGINES: one row = one way to run a network: ours, and the peers that people would use instead. Opened in a worker process of its own.

Every engine takes uint8 images [batch, H, W, 3] and gives probabilities float32 [batch, classes]. Frameworks are imported when a row is opened.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.runtime.engines.open_vino import load_openvino
from cellclf.studies.measurements import MeasuredPrecision, Measurement
from cellclf.tables import Table

__all__ = ["ENGINES", "OURS", "REFERENCE", "Asked", "Engine", "Opened", "Runner", "UnavailableError", "saved_weights"]

Pixels = npt.NDArray[np.uint8]
Runner = Callable[[Pixels], npt.NDArray[np.float32]]
"""Images → probabilities. One runner is called by one thread at a time."""

OURS = str(Measurement.model_fields["engine"].default)
REFERENCE = "onnxruntime-loop"
"""The peer that is in every run, so that runs can be compared by what they make of it."""


class UnavailableError(Exception):
    """This engine cannot be had on this machine at all; the message says why. Not for one that is there and fails."""


@dataclass(frozen=True)
class Asked:
    """What a worker is asked to open. precision: what it is computed in. threads: of all sessions together.

    provider: a --device of ours, a peer's row says on what it runs.
    """

    file: Path
    precision: str
    provider: str
    threads: int
    sessions: int

    @property
    def threads_each(self) -> int:
        """Threads of one session."""
        return max(1, self.threads // self.sessions)


@dataclass(frozen=True)
class Opened:
    """An open engine: the provider that really runs, and the runners of a batch size, one a session.

    same_weights: whether its weights are the file's, so that its answers can be compared.
    """

    provider: str
    runners: Callable[[int], list[Runner]]
    same_weights: bool = True


@dataclass(frozen=True, kw_only=True)
class Engine:
    """name; title as the page shows it; precisions it runs in, each with the precision of the file it is given; packages it needs.

    one_session: it has no way to run several sessions side by side. provider: whose hardware a peer runs on; without it, it does not take part.
    """

    name: str
    title: str
    precisions: Mapping[MeasuredPrecision, str]
    packages: tuple[str, ...]
    open: Callable[[Asked], Opened]
    one_session: bool = False
    provider: str = "cpu"

    def load_packages(self) -> None:
        """Import what the engine needs; raises UnavailableError where it is not installed."""
        for name in self.packages:
            if importlib.util.find_spec(name) is None:
                raise UnavailableError(f"{name} is not installed; pip install 'cellclf[dev]' brings every peer")
            importlib.import_module(name)


def saved_weights(file: Path) -> Path:
    """Where the Keras weights of a skeleton are kept, beside its fp32 file."""
    return file.with_suffix(".weights.h5")


def _open_ours(asked: Asked) -> Opened:
    from cellclf import Classifier

    classifier = Classifier(asked.file, device=asked.provider, threads=asked.threads_each, sessions=asked.sessions)
    return Opened(classifier.provider, lambda _: [classifier.probabilities] * asked.sessions)


def _open_loop(asked: Asked) -> Opened:
    """What anyone writes: a session with the defaults but for the threads, which all contestants share, and run()."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked.threads_each
    session = onnxruntime.InferenceSession(str(asked.file), options, providers=["CPUExecutionProvider"])

    def run(images: Pixels) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = session.run(None, {"image": images})[0]
        return values

    return Opened(session.get_providers()[0], lambda _: [run] * asked.sessions)


_OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What the layers that are not quantized are computed in."""


def _open_openvino(asked: Asked) -> Opened:
    """OpenVINO's own API: the shape fixed to the batch, which it is quickest with, one stream and one request a session."""
    openvino = load_openvino()
    core = openvino.Core()
    wanted = _OPENVINO_TYPES[asked.precision]
    if wanted == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnavailableError("this processor has no bfloat16 instructions")
    settings = {
        "INFERENCE_PRECISION_HINT": wanted,
        "INFERENCE_NUM_THREADS": asked.threads,
        "NUM_STREAMS": asked.sessions,
        "ENABLE_CPU_PINNING": False,  # on a busy machine a pinned thread waits for its core: OpenVINO at its best, not at its default
    }
    source = core.read_model(asked.file)

    def runners(batch: int) -> list[Runner]:
        model = source.clone()
        model.reshape({0: [batch, *(int(length.get_length()) for length in list(model.input(0).partial_shape)[1:])]})
        compiled = core.compile_model(model, "CPU", settings)
        ran = (compiled.get_property("EXECUTION_DEVICES"), compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        if ran != (["CPU"], wanted):
            raise RuntimeError(f"OpenVINO runs on {ran[0]} in {ran[1]}, not on the CPU in {wanted}")
        return [_openvino_runner(compiled) for _ in range(asked.sessions)]

    return Opened("OpenVINO CPU", runners)


def _openvino_runner(compiled: Any) -> Runner:
    request = compiled.create_infer_request()

    def run(images: Pixels) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = request.infer({0: images}, share_inputs=True)[0]
        return values

    return run


def _keras_network(asked: Asked) -> Any:
    """The network that the file was made from; its weights where they are kept beside the file, else random ones, which are as quick."""
    import tensorflow

    from cellclf.card import read_model_file
    from cellclf.training.network import build_network
    from cellclf.training.recipe import Recipe

    tensorflow.config.threading.set_intra_op_parallelism_threads(asked.threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    card = read_model_file(asked.file).card
    recipe = Recipe.model_validate(card.recipe)
    network = build_network(recipe, classes=len(card.labels), weights=None, steps_per_epoch=1)
    if saved_weights(asked.file).is_file():
        network.whole.load_weights(saved_weights(asked.file))
    return network.answers


def _open_predict(asked: Asked) -> Opened:
    network = _keras_network(asked)

    def runners(batch: int) -> list[Runner]:
        return [lambda images: np.asarray(network.predict(images, batch_size=batch, verbose=0))]

    return Opened("TensorFlow CPU", runners, saved_weights(asked.file).is_file())


def _open_function(asked: Asked) -> Opened:
    import tensorflow

    network = _keras_network(asked)
    function = tensorflow.function(lambda images: network(images, training=False), jit_compile=False)

    def run(images: Pixels) -> npt.NDArray[np.float32]:
        return np.asarray(function(tensorflow.constant(images)))

    return Opened("TensorFlow CPU", lambda _: [run], saved_weights(asked.file).is_file())


def _open_torch(asked: Asked) -> Opened:
    """torch.compile in fp16, channels last, convolutions searched, for the very batch; the quicker of its kernels and one CUDA graph of them."""
    import torch

    from benchmarks.gpu.torch_peer import NotTheSameError, of_file

    if not torch.cuda.is_available():
        raise UnavailableError("this PyTorch finds no GPU")
    try:
        runners = of_file(asked.file, device="cuda")
    except NotTheSameError as error:
        raise UnavailableError(str(error)) from error
    return Opened(f"PyTorch {torch.cuda.get_device_name()}", lambda batch: [runners(batch)], same_weights=False)


ENGINES: Table[Engine] = Table(
    "engine",
    [
        Engine(
            name=OURS,
            title="cellclf",
            precisions={"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
            packages=("onnxruntime", "cellclf"),
            open=_open_ours,
        ),
        Engine(name=REFERENCE, title="onnxruntime, plain loop", precisions={"fp32": "fp32"}, packages=("onnxruntime",), open=_open_loop),
        Engine(
            name="openvino",
            title="OpenVINO",
            precisions={"fp32": "fp32", "bf16": "fp32", "int8": "int8"},
            packages=("openvino",),
            open=_open_openvino,
        ),
        Engine(
            name="keras-predict",
            title="Keras predict",
            precisions={"fp32": "fp32"},
            packages=("tensorflow", "keras"),
            open=_open_predict,
            one_session=True,
        ),
        Engine(
            name="tf-function",
            title="tf.function",
            precisions={"fp32": "fp32"},
            packages=("tensorflow", "keras"),
            open=_open_function,
            one_session=True,
        ),
        Engine(
            name="torch.compile",
            title="torch.compile, channels last",
            precisions={"fp16": "fp16"},
            packages=("torch",),
            open=_open_torch,
            one_session=True,
            provider="cuda",
        ),
    ],
)
