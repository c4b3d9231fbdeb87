"""PROVIDERS: one row = one execution provider of ONNX Runtime, or OpenVINO in one precision; and which one a --device means here."""

import contextlib
import ctypes
import importlib
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cellclf.errors import ProviderUnavailableError
from cellclf.tables import Table

__all__ = [
    "DEVICES",
    "MEMORY_VARIABLE",
    "PROVIDERS",
    "Provider",
    "Target",
    "cuda_generation",
    "gpu_count",
    "libraries",
    "no_gpu",
    "parse_device",
    "preload_gpu_libraries",
    "why_not",
]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """name: as a user types it. runs_as: as records name it when it really runs (ONNX Runtime's name; OpenVINO's device and precision).

    engine: the runtime that opens it. options: its options there. options_by_precision: more of them for files of a precision. variants: sets of
    options that `tune` tries beside these; one is used only where it gives the numbers of the file's golden cases. gpu: whether it takes a device
    number. libraries: shared libraries it loads, with {cuda} for the CUDA generation that this ONNX Runtime was built for. golden_tolerance: how
    far its probabilities may be from a file's golden cases where that is more than the file allows; 0 = it computes in the file's own precision.
    memory_option: the option that limits its memory, in bytes. batch: images a call where there are many and nothing was tuned; a core is quickest
    with few, whose features stay in its cache (benchmarks/batches.py), a GPU with many.
    """

    name: str
    runs_as: str
    engine: Literal["onnxruntime", "openvino", "xla"] = "onnxruntime"
    gpu: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    options_by_precision: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variants: tuple[Mapping[str, str], ...] = ()
    libraries: tuple[str, ...] = ()
    golden_tolerance: float = 0.0
    memory_option: str | None = None
    batch: int = 4


_CUDA_LIBRARIES = ("libcudart.so.{cuda}", "libcublasLt.so.{cuda}", "libcublas.so.{cuda}", "libcudnn.so.9")

_CUDA_OPTIONS = {
    "use_tf32": "0",  # it would change an fp32 file's probabilities in the third digit
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE takes seconds for each new batch size
    "cudnn_conv_use_max_workspace": "1",
    "arena_extend_strategy": "kSameAsRequested",  # grows by what is asked for, not to the next power of two
}
"""fuse_conv_bias is left alone: it has given wrong numbers elsewhere, and the right ones measured on an H200 came at most 3 % faster."""

_CUDA_VARIANTS: tuple[Mapping[str, str], ...] = (
    {"prefer_nhwc": "1"},
    {"prefer_nhwc": "0"},
    {"prefer_nhwc": "1", "enable_cuda_graph": "1"},
    {"prefer_nhwc": "0", "enable_cuda_graph": "1"},
    {"prefer_nhwc": "1", "enable_cuda_graph": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"},
)
"""A CUDA graph makes one image 1.4 to 3 times faster and a batch of 256 hardly; the exhaustive search found nothing better on an H200."""

_XLA_VARIANTS: tuple[Mapping[str, str], ...] = (
    {"pointwise": "dot"},
    {"graph": "whole"},
    {"pointwise": "dot", "graph": "whole"},
    {"pointwise": "dot", "strided": "shifted", "graph": "whole"},
)
"""At batch 256 on an H200 matrix products made MobileNet 8 %, VGG16 and Xception 2 to 3 % faster, and ResNet50 12 % slower (docs/results/gpu.md); the
others are not yet measured on a GPU."""

MEMORY_VARIABLE = "CELLCLF_GPU_MEMORY_MB"
"""Limits the memory of providers that have a memory_option."""

PROVIDERS: Table[Provider] = Table(
    "device",
    [
        Provider(name="cpu", runs_as="CPUExecutionProvider"),
        Provider(name="openvino", runs_as="OpenVINO:CPU f32", engine="openvino", options={"INFERENCE_PRECISION_HINT": "f32"}),
        Provider(
            name="openvino-bf16",
            runs_as="OpenVINO:CPU bf16",
            engine="openvino",
            options={"INFERENCE_PRECISION_HINT": "bf16"},
            golden_tolerance=0.16,  # what an fp16 file is allowed, eight times: bfloat16 has three significant bits less
        ),
        Provider(
            name="cuda",
            runs_as="CUDAExecutionProvider",
            gpu=True,
            batch=64,
            options=_CUDA_OPTIONS,
            options_by_precision={"fp16": {"prefer_nhwc": "1"}},  # at batch 256 1.5 to 2.3 times faster, at 1 1.1 to 1.5 (docs/results/gpu)
            variants=_CUDA_VARIANTS,
            libraries=_CUDA_LIBRARIES,
            memory_option="gpu_mem_limit",
        ),
        Provider(
            name="tensorrt",
            runs_as="TensorrtExecutionProvider",
            gpu=True,
            batch=64,
            memory_option="trt_max_workspace_size",
            # True, not 1: its parser knows nothing else. The path becomes a folder of the network, its precision and the GPU.
            options={"trt_engine_cache_enable": "True", "trt_engine_cache_path": "", "trt_timing_cache_enable": "True"},
            options_by_precision={"fp16": {"trt_fp16_enable": "True"}, "int8": {"trt_int8_enable": "True"}},
            libraries=(*_CUDA_LIBRARIES, "libnvinfer.so.10", "libnvonnxparser.so.10"),
        ),
        Provider(name="xla", runs_as="XLA:CUDA", engine="xla", gpu=True, batch=64, variants=_XLA_VARIANTS),
    ],
)

DEVICES = ("auto", *PROVIDERS, "N")
"""What --device takes; N is the number of a GPU (as cuda)."""


@dataclass(frozen=True)
class Target:
    """A provider and, for GPUs, which one."""

    provider: Provider
    index: int = 0

    def __str__(self) -> str:
        return f"{self.provider.name}:{self.index}" if self.provider.gpu else self.provider.name


def parse_device(device: str) -> Target | None:
    """The target that a --device names, None for 'auto'; raises UnknownNameError."""
    if device == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,4}", device):
        return Target(PROVIDERS["cuda"], int(device))
    match = re.fullmatch(r"([a-z0-9-]+):([0-9]{1,4})", device)
    if match and match[1] in PROVIDERS and PROVIDERS[match[1]].gpu:
        return Target(PROVIDERS[match[1]], int(match[2]))
    return Target(PROVIDERS.find(device))


def gpu_count() -> int:
    """NVIDIA GPUs that the driver offers this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1" if sys.platform != "win32" else "nvcuda.dll")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def cuda_generation() -> str | None:
    """Major CUDA version that this ONNX Runtime was built for, None for a CPU build."""
    built = importlib.import_module("onnxruntime.capi.build_and_package_info")
    version = str(getattr(built, "cuda_version", "") or "")
    return version.partition(".")[0] or None


def preload_gpu_libraries() -> None:
    """Let ONNX Runtime find the CUDA libraries that pip installed; it prints what it misses, which `libraries` tells better."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls") and cuda_generation():
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def libraries(provider: Provider) -> dict[str, bool]:
    """For each shared library of a provider, whether it can be loaded here (after preload_gpu_libraries)."""
    found = {}
    for pattern in provider.libraries:
        name = pattern.format(cuda=cuda_generation() or "")
        try:
            ctypes.CDLL(name)
            found[name] = True
        except OSError:
            found[name] = False
    return found


def no_gpu(target: Target) -> ProviderUnavailableError:
    """The error for a GPU that this machine does not have."""
    count = gpu_count()
    if count == 0:
        return ProviderUnavailableError(f"device {target.provider.name}: no NVIDIA GPU, or no driver for it, on this machine; use --device cpu")
    return ProviderUnavailableError(f"device {target}: this machine has {count} GPUs, numbered from 0")


def why_not(target: Target) -> ProviderUnavailableError:
    """The error for a provider that did not open, with the most likely fix."""
    import onnxruntime

    name = target.provider.name
    if target.provider.runs_as not in onnxruntime.get_available_providers():
        extra = f"cuda{cuda_generation() or 13}"
        return ProviderUnavailableError(f"device {name}: this onnxruntime was built without it; install it with: pip install 'cellclf[{extra}]'")
    if gpu_count() <= target.index:
        return no_gpu(target)
    missing = [library for library, found in libraries(target.provider).items() if not found]
    if missing:
        extra = f"pip install 'cellclf[cuda{cuda_generation()}]'" if name == "cuda" else "install TensorRT 10 beside the CUDA libraries"
        return ProviderUnavailableError(f"device {name}: {', '.join(missing)} cannot be loaded; {extra}")
    return ProviderUnavailableError(f"device {name}: ONNX Runtime could not open it although its libraries are there; see cellclf doctor")
