"""ONNX Runtime on buffers that are allocated and bound once a batch size: what a GPU needs. The same code runs on the CPU, where it is tested.

Not yet measured on a GPU.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError
from cellclf.runtime.buckets import BUCKETS, bucket_of, padded, parts
from cellclf.runtime.providers import Target

__all__ = ["BoundSession"]


@dataclass(frozen=True)
class _Buffers:
    """One batch size's input and output on the device, their binding, and the options of its runs."""

    images: Any
    probabilities: Any
    binding: Any
    options: Any


class BoundSession:
    """Bytes are copied into bound buffers and probabilities out of them; batches are padded to a bucket and cut after.

    device: "cuda" or "cpu", where the buffers lie. graphs: capture a CUDA graph a bucket, which a session opened with enable_cuda_graph does on the
    bucket's first run; shapes and addresses then stay the same. One call at a time, all from one thread: the buffers are shared.
    Not yet measured on a GPU.
    """

    def __init__(self, onnxruntime_session: Any, target: Target, *, device: str, graphs: bool) -> None:
        self.target = target
        self.provider = str(onnxruntime_session.get_providers()[0])
        self._session = onnxruntime_session
        self._device = device
        self._graphs = graphs
        self._caller = ThreadPoolExecutor(1)  # ONNX Runtime keeps a CUDA graph for the thread that captured it
        self._buckets: dict[int, _Buffers] = {}

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """See Session."""
        shape = self._session.get_inputs()[0].shape[1:]
        if len(images) == 0 or images.dtype != np.uint8 or list(images.shape[1:]) != shape:
            raise InferenceError(f"{self.provider} wants uint8 images of shape {shape}, at least one; given {images.dtype} {images.shape}")
        return self._caller.submit(self._run_parts, images).result()

    def _run_parts(self, images: Pixels) -> npt.NDArray[np.float32]:
        return np.concatenate([self._run_part(part) for part in parts(images, BUCKETS[-1])])

    def _run_part(self, images: Pixels) -> npt.NDArray[np.float32]:
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        size = bucket_of(len(images))
        try:
            buffers = self._buffers(size)
            buffers.images.update_inplace(padded(images, size))
            self._session.run_with_iobinding(buffers.binding, buffers.options)
            buffers.binding.synchronize_outputs()
            values: npt.NDArray[np.float32] = buffers.probabilities.numpy()[: len(images)].copy()
        except (failures.InvalidArgument, failures.Fail, failures.RuntimeException, failures.EPFail) as error:
            raise InferenceError(f"{self.provider} could not run a batch of {size} images: {str(error).splitlines()[0]}") from error
        return values

    def _buffers(self, size: int) -> _Buffers:
        """The buffers of a bucket, made on first use. Each bucket's graph has its own number."""
        import onnxruntime

        if size not in self._buckets:
            image = self._session.get_inputs()[0]
            probabilities = next(output for output in self._session.get_outputs() if output.name == "probabilities")
            index = self.target.index
            source, result = (
                onnxruntime.OrtValue.ortvalue_from_shape_and_type([size, *value.shape[1:]], kind, self._device, index)
                for value, kind in ((image, np.uint8), (probabilities, np.float32))
            )
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("image", source)
            binding.bind_ortvalue_output("probabilities", result)
            options = onnxruntime.RunOptions()
            if self._graphs:
                options.add_run_config_entry("gpu_graph_id", str(size))
            self._buckets[size] = _Buffers(source, result, binding, options)
        return self._buckets[size]
