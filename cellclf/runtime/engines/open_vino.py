"""The engine OpenVINO, on CPUs. Left alone it computes in bfloat16 where the CPU can: the precision is named, and asked for after opening."""

import sys
from collections import Counter, defaultdict
from threading import Condition
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError, MissingExtraError, ModelFileError, ProviderUnavailableError
from cellclf.runtime.buckets import bucket_of, padded, parts
from cellclf.runtime.engines.protocol import Session, Wanted
from cellclf.runtime.providers import Target

__all__ = ["load_openvino", "open_openvino"]

_DEVICE = "CPU"
_REPORTER = "openvino_telemetry"
_PRECISION = "INFERENCE_PRECISION_HINT"
_LARGEST_BATCH = 32
"""Images computed at once; more in a batch no longer helps a CPU."""


def load_openvino() -> Any:
    """Import openvino without the package by which its import reports to its maker that it was used; raises ModuleNotFoundError.

    Nobody who classifies patients' images expects that. OpenVINO has a stand-in for where that package is not installed.
    """
    hidden = "openvino" not in sys.modules and _REPORTER not in sys.modules
    if hidden:
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # an import of it fails now
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[_REPORTER]
    return openvino


def open_openvino(content: bytes, target: Target, wanted: Wanted) -> Session:
    """Open on the CPU in the row's precision, in up to `sessions` networks of one stream with `threads` threads each; see Engine."""
    try:
        openvino = load_openvino()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"device {target}", "openvino") from error

    core = openvino.Core()
    precision = target.provider.options[_PRECISION]
    capabilities = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ProviderUnavailableError(f"device {target}: this CPU has no bfloat16 instructions; use --device openvino")
    try:
        model = core.read_model(content)
    except RuntimeError as error:
        raise ModelFileError(f"OpenVINO cannot load the network: {_reason(error)}") from error
    options = {
        **target.provider.options,
        "INFERENCE_NUM_THREADS": wanted.threads,
        "NUM_STREAMS": 1,  # what a caller asks for runs in its own thread then, not in another that has to be woken (benchmarks/batches.py)
        "ENABLE_CPU_PINNING": False,  # other sessions and processes would be pinned to the very same cores
        "PERFORMANCE_HINT": "LATENCY",
    }
    return _OpenVinoSession(core, model, options, target, wanted.sessions)


class _OpenVinoSession:
    """Networks compiled for one batch size each, on first use: with a free batch dimension OpenVINO was up to 1.7 times slower.

    A batch is padded to the next size and cut after. Each caller takes a network of its own, which is compiled where all that there are are taken;
    with `sessions` of them, a further caller waits.
    """

    def __init__(self, core: Any, model: Any, options: dict[str, Any], target: Target, sessions: int) -> None:
        self._core = core
        self._model = model
        self._options = options
        self._sessions = sessions
        self._changed = Condition()
        places = [place for place, output in enumerate(model.outputs) if "probabilities" in output.get_names()]
        if len(model.inputs) != 1 or not places:
            raise ModelFileError("the network has not one input, or no output probabilities")
        self._output = places[0]
        self._idle: defaultdict[int, list[Any]] = defaultdict(list)
        self._made: Counter[int] = Counter()
        self.target = target
        compiled = self._compiled(1)
        self.provider = self._running(compiled)
        self._idle[1].append(compiled.create_infer_request())
        self._made[1] = 1

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """See Session."""
        if len(images) == 0 or images.dtype != np.uint8:  # OpenVINO would turn other numbers into uint8
            raise InferenceError(f"{self.provider} wants uint8 images, at least one, and was given {len(images)} of {images.dtype}")
        if len(images) <= _LARGEST_BATCH:
            return self._run_part(images)
        return np.concatenate([self._run_part(part) for part in parts(images, _LARGEST_BATCH)])

    def _run_part(self, images: Pixels) -> npt.NDArray[np.float32]:
        size = bucket_of(len(images))
        request = self._taken(size)
        try:
            # By number: looking names up takes longer than all else that is done here around a small network.
            values: npt.NDArray[np.float32] = request.infer({0: padded(images, size)}, share_inputs=True)[self._output]
        except RuntimeError as error:
            raise InferenceError(f"{self.target} could not run a batch of {len(images)} images: {_reason(error)}") from error
        finally:
            with self._changed:
                self._idle[size].append(request)
                self._changed.notify_all()  # who waits may wait for another size
        return values[: len(images)]

    def _taken(self, size: int) -> Any:
        """A request for batches of `size` that nobody uses; the last one put back first, whose memory is warm."""
        with self._changed:
            while not self._idle[size] and self._made[size] >= self._sessions:
                self._changed.wait()
            if self._idle[size]:
                return self._idle[size].pop()
            self._made[size] += 1
        made = False
        try:
            request = self._compiled(size).create_infer_request()
            made = True
        finally:
            if not made:
                with self._changed:
                    self._made[size] -= 1
                    self._changed.notify_all()  # who waits may wait for another size
        return request

    def _compiled(self, size: int) -> Any:
        """The network for batches of `size`; callers that want one at the same time compile side by side."""
        try:
            with self._changed:
                shape = self._model.input("image").partial_shape
                shape[0] = size
                self._model.reshape({"image": shape})
                fixed = self._model.clone()
            return self._core.compile_model(fixed, _DEVICE, self._options)
        except RuntimeError as error:
            raise ModelFileError(f"OpenVINO cannot compile the network for batches of {size}: {_reason(error)}") from error

    def _running(self, compiled: Any) -> str:
        """Device and precision as the compiled network tells them; raises ProviderUnavailableError where they are not the row's."""
        devices = "+".join(compiled.get_property("EXECUTION_DEVICES"))
        running = f"OpenVINO:{devices} {compiled.get_property(_PRECISION).get_type_name()}"
        if running != self.target.provider.runs_as:
            raise ProviderUnavailableError(f"device {self.target}: OpenVINO runs the network as {running} instead")
        return running


def _reason(error: RuntimeError) -> str:
    """The last line that says something: those before name places in OpenVINO's own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
