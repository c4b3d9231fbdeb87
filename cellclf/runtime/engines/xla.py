"""The engine XLA, by JAX, on NVIDIA GPUs. It computes bias, activation and residual sum within a convolution's kernel where that is faster.

The same code runs on the CPU, where it is tested; there it is slow and no provider offers it.
"""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.errors import CellclfError, InferenceError, MissingExtraError, ModelFileError, ProviderUnavailableError
from cellclf.runtime.buckets import bucket_of, padded, parts
from cellclf.runtime.engines.protocol import Session, Wanted
from cellclf.runtime.providers import MEMORY_VARIABLE, Target, gpu_count, no_gpu
from cellclf.storage import cache_folder

__all__ = ["XlaSession", "open_xla"]

BUCKETS = (1, 8, 64, 256)
"""Batch sizes that are compiled, each on first use in seconds to a minute; what was compiled is kept in the cache folder."""

_WHOLE_GRAPH = {"xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,CONVOLUTION"}
"""What XLA replays as a CUDA graph of its own accord, and convolutions. Not yet measured on a GPU."""


def open_xla(content: bytes, target: Target, wanted: Wanted) -> Session:
    """Open on a GPU; see Engine."""
    name = target.provider.name
    if os.environ.get(MEMORY_VARIABLE):
        raise CellclfError(f"device {name}: XLA takes no {MEMORY_VARIABLE}; unset it, or use --device cuda")
    if gpu_count() <= target.index:
        raise no_gpu(target)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes three quarters of the card's memory
    try:
        import jax
        import onnx  # noqa: F401  # needed to read the file
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"device {name}", "xla") from error

    try:
        devices = jax.devices("cuda")
    except RuntimeError as error:
        raise ProviderUnavailableError(f"device {name}: this JAX has no CUDA; pip install 'cellclf[xla]'") from error
    folder = cache_folder() / "xla"
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return XlaSession(content, target, devices[target.index], {**target.provider.options, **wanted.options})


class XlaSession:
    """A network compiled for a few batch sizes; a batch is padded to the next of them and cut after. Its weights lie on the device once."""

    def __init__(self, content: bytes, target: Target, device: Any, options: dict[str, str]) -> None:
        import jax

        from cellclf.runtime.engines.jax_graph import program_of
        from cellclf.runtime.engines.jax_operators.ways import Ways

        ways = Ways.of(options)
        program = program_of(content, ways)
        self.target = target
        self.provider = f"XLA:{device.client.platform_version.split()[0].upper()}" if device.platform == "gpu" else f"XLA:{device.platform.upper()}"
        self._device = device
        self._image_shape = program.image_shape
        self._weights = jax.device_put(program.weights, device)
        self._check(program.function, program.weights)
        self._function = jax.jit(program.function, compiler_options=_WHOLE_GRAPH if ways.graph == "whole" else None)

    def _check(self, function: Any, weights: Any) -> None:
        """Trace for two images and compute nothing; raises ModelFileError for shapes that do not go together."""
        import jax

        images = jax.ShapeDtypeStruct((2, *self._image_shape), np.uint8)
        try:
            found = jax.eval_shape(function, weights, images)
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            raise ModelFileError(f"XLA cannot compute the network: {_reason(error)}") from error
        if not found.shape or found.shape[0] != 2 or found.dtype != np.float32:
            raise ModelFileError(f"for 2 images the network gives {found.dtype} {list(found.shape)}, not float32 with a row an image")

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """See Session."""
        import jax

        if len(images) == 0 or images.dtype != np.uint8 or images.shape[1:] != self._image_shape:  # XLA would compile for any shape
            raise InferenceError(
                f"{self.provider} wants uint8 images of shape {list(self._image_shape)}, at least one; given {images.dtype} {images.shape}"
            )
        try:
            # All are on their way before the first is waited for: a part is copied while another is computed.
            going = [(self.call(self.put(padded(part, bucket_of(len(part), BUCKETS)))), len(part)) for part in parts(images, BUCKETS[-1])]
            return np.concatenate([np.asarray(values)[:count] for values, count in going])
        except (jax.errors.JaxRuntimeError, TypeError, ValueError) as error:
            raise InferenceError(f"{self.provider} could not run a batch of {len(images)} images: {_reason(error)}") from error

    def put(self, images: Pixels) -> Any:
        """Copy a batch to the device."""
        import jax

        return jax.device_put(images, self._device)

    def call(self, images: Any) -> Any:
        """Probabilities of a batch that is on the device, on the device; returns before they are there."""
        return self._function(self._weights, images)

    def program(self, images: Any) -> Any:
        """What XLA made for a batch of this shape, a jax.stages.Compiled: its text and its memory."""
        return self._function.lower(self._weights, images).compile()


def _reason(error: Exception) -> str:
    """The first line of what went wrong."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
