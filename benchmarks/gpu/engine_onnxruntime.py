"""One backbone's fp16 graph on ONNX Runtime, in a process of its own: options searched, numbers checked against fp32 on the CPU, then timed.

A session whose first provider is not the one asked for, or that leaves nodes to another one, is invalid, not slow.
"""

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.record import arguments, say
from benchmarks.gpu.skeleton import cpu_session, fill, read_skeleton
from benchmarks.gpu.timing import latency, rate
from cellclf.artifact.golden import golden_image
from cellclf.artifact.precisions import PRECISIONS

Search = Literal["HEURISTIC", "EXHAUSTIVE"]
GOLDEN = 8
LATENCY_CALLS = 2000


@dataclass(frozen=True)
class Choice:
    """What is searched. fuse_conv_bias never is: it has given wrong numbers."""

    prefer_nhwc: bool = False
    search: Search = "HEURISTIC"
    max_workspace: bool = True
    cuda_graph: bool = False

    def options(self) -> dict[str, str]:
        """The CUDA provider's options."""
        return {
            "device_id": "0",
            "prefer_nhwc": str(int(self.prefer_nhwc)),
            "cudnn_conv_algo_search": self.search,
            "cudnn_conv_use_max_workspace": str(int(self.max_workspace)),
            "enable_cuda_graph": str(int(self.cuda_graph)),
            "arena_extend_strategy": "kSameAsRequested",
            "fuse_conv_bias": "0",
        }


class InvalidError(Exception):
    """This choice gives no figure; the text says why."""


@dataclass(frozen=True)
class Graph:
    """fp16 bytes of the graph, a batch's images, the golden images they repeat, and what fp32 on the CPU gives for those."""

    content: bytes
    images: npt.NDArray[np.uint8]
    golden: npt.NDArray[np.uint8]
    expected: npt.NDArray[np.float32]
    tolerance: float


class Bound:
    """A session with input and output bound once on the device."""

    def __init__(self, graph: Graph, choice: Choice, *, check: bool) -> None:
        import onnxruntime

        device = "cpu" if check else "cuda"
        provider = "CPUExecutionProvider" if check else "CUDAExecutionProvider"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if check:
            options.intra_op_num_threads = 1
        options.add_free_dimension_override_by_name("batch", len(graph.images))
        if not check:
            # Without it, nodes that the provider does not take run on the CPU, with copies around them.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        chosen = (provider, {} if check else choice.options())
        try:
            self.session = onnxruntime.InferenceSession(graph.content, options, providers=[chosen])
        except Exception as error:  # whatever the provider raises makes this choice invalid, and is kept
            raise InvalidError(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}") from error
        self.provider = str(self.session.get_providers()[0])
        if self.provider != provider:
            raise InvalidError(f"asked for {provider}, got {self.session.get_providers()}")
        self.input = onnxruntime.OrtValue.ortvalue_from_numpy(graph.images, device, 0)
        self.output = onnxruntime.OrtValue.ortvalue_from_shape_and_type((len(graph.images), graph.expected.shape[1]), np.float32, device, 0)
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input("image", self.input)
        self.binding.bind_ortvalue_output("probabilities", self.output)
        self.waiting = onnxruntime.RunOptions()
        self.going_on = onnxruntime.RunOptions()
        self.going_on.add_run_config_entry("disable_synchronize_execution_providers", "1")
        for _ in range(3):  # an ordinary run, the capture of a CUDA graph, its first replay
            self.call()

    def call(self) -> None:
        """One batch; returns when it has ended."""
        self.session.run_with_iobinding(self.binding, self.waiting)

    def calls(self, count: int) -> None:
        """Batches one behind the other; returns when the last has ended."""
        for _ in range(count - 1):
            self.session.run_with_iobinding(self.binding, self.going_on)
        self.call()

    def call_from_host(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Copy the images into the bound buffer, run, and bring the probabilities back."""
        self.input.update_inplace(images)
        self.call()
        values: npt.NDArray[np.float32] = self.output.numpy()
        return values


def load_graph(options: argparse.Namespace) -> Graph:
    """Fill the skeleton; fp32 probabilities come from the CPU."""
    whole = fill(read_skeleton(options.carry / "skeletons" / f"{options.backbone}.onnx.gz"))
    height, width = (whole.graph.input[0].type.tensor_type.shape.dim[axis].dim_value for axis in (1, 2))
    golden = np.stack([golden_image(seed, height_px=height, width_px=width) for seed in range(GOLDEN)])
    expected = cpu_session(whole)(["probabilities"], golden)[0]
    half = PRECISIONS["fp16"]
    content = half.convert(whole, golden).SerializeToString()
    images = np.resize(golden, (options.batch, *golden.shape[1:]))
    return Graph(content, images, golden, expected, half.tolerance.golden)


def difference(bound: Bound, graph: Graph) -> float:
    """Largest difference of a probability from fp32, over all golden images, run through this very binding; raises InvalidError.

    The output is poisoned before, and by now a CUDA graph is captured, so what is compared is its replay.
    """
    size, largest = len(graph.images), 0.0
    bound.output.update_inplace(np.full((size, graph.expected.shape[1]), np.nan, dtype=np.float32))
    for start in range(0, GOLDEN, size):
        expected = graph.expected[start : start + size]
        found = bound.call_from_host(np.resize(graph.golden[start : start + size], graph.images.shape))[: len(expected)]
        off = np.abs(found - expected)
        largest = max(largest, float(off.max()) if np.isfinite(off).all() else float("inf"))
    bound.input.update_inplace(graph.images)
    if not largest <= graph.tolerance:
        raise InvalidError(f"probabilities differ from fp32 by {largest:.3g}; {graph.tolerance:g} is allowed")
    return largest


def try_choice(graph: Graph, choice: Choice, options: argparse.Namespace) -> dict[str, Any]:
    """A quick figure of one choice, or why there is none."""
    row: dict[str, Any] = {"choice": asdict(choice)}
    try:
        bound = Bound(graph, choice, check=options.check)
        row["provider"] = bound.provider
        row["max_difference"] = difference(bound, graph)
        found = rate(bound.calls, items=len(graph.images), window_s=0.005 if options.check else 0.25)
        row |= {"images_per_second": found.per_second, "agree": found.agree}
    except InvalidError as error:
        row["invalid"] = str(error)
    except Exception as error:  # noqa: BLE001  # as above: a kernel that fails while running
        row["invalid"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
    gc.collect()
    say(json.dumps(row))
    return row


def stages(*, thorough: bool) -> list[Callable[[Choice], tuple[Choice, ...]]]:
    """What is tried on top of the best so far, the slow convolution search last."""
    found: list[Callable[[Choice], tuple[Choice, ...]]] = [
        lambda best: (replace(best, cuda_graph=True),),
        lambda best: (replace(best, search="EXHAUSTIVE"),),
    ]
    if thorough:
        found.append(lambda best: (replace(best, max_workspace=False), replace(best, prefer_nhwc=not best.prefer_nhwc)))
    return found


def measure(options: argparse.Namespace) -> None:
    """Search one option after another, keeping what is faster; write the row whenever the best has been measured anew."""
    graph = load_graph(options)
    row: dict[str, Any] = {"engine": "onnxruntime", "backbone": options.backbone, "batch": options.batch, "image_size_px": graph.images.shape[1]}
    row["fp32_spread"] = float(graph.expected.std(axis=0).max())
    tried = [try_choice(graph, choice, options) for choice in (Choice(prefer_nhwc=True), Choice())]
    best = _fastest(tried)
    for more in [None, *stages(thorough=options.thorough)]:
        if best is None:
            break
        if more is not None:
            tried.extend(try_choice(graph, choice, options) for choice in more(best))
        if more is None or _fastest(tried) != best:
            best = _fastest(tried)
            assert best is not None
            row |= timed(graph, best, options)
        _write(row | {"tried": tried}, options)
    if best is None:
        _write(row | {"tried": tried, "invalid": "; ".join(found["invalid"] for found in tried)}, options)


def _fastest(tried: list[dict[str, Any]]) -> Choice | None:
    valid = [row for row in tried if "invalid" not in row]
    return Choice(**max(valid, key=lambda row: row["images_per_second"])["choice"]) if valid else None


def timed(graph: Graph, choice: Choice, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one choice."""
    bound = Bound(graph, choice, check=options.check)
    row: dict[str, Any] = {"choice": asdict(choice), "provider": bound.provider, "max_difference": difference(bound, graph)}
    throughput = rate(bound.calls, items=options.batch, window_s=0.005 if options.check else 0.6)
    calls = 6 if options.check else LATENCY_CALLS if options.batch == 1 else 200
    row["throughput"] = throughput.record()
    row["latency"] = latency(bound.call, calls=calls, warm_up=2 if options.check else 50).record()

    def from_host() -> None:
        bound.call_from_host(graph.images)

    row["latency_from_host"] = latency(from_host, calls=min(calls, 500), warm_up=2).record()
    row["unsteady"] = not throughput.agree
    return row


def _write(row: dict[str, Any], options: argparse.Namespace) -> None:
    options.result.write_text(json.dumps(row), encoding="utf-8")


def main() -> None:
    """Print what is tried; write the row to --result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    if not options.check:
        import onnxruntime

        onnxruntime.preload_dlls()
    measure(options)


if __name__ == "__main__":
    main()
