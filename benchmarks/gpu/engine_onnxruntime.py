"""One backbone's fp16 graph on ONNX Runtime, in a process of its own: options searched, numbers checked against fp32 on the CPU, then timed.

What needs no GPU (the graph, its fp32 reference) is made before the process asks for its turn.

A session whose first provider is not the one asked for, or that leaves nodes to another one, is invalid, not slow.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.record import arguments, say, store
from benchmarks.gpu.skeleton import cpu_session, fill, read_skeleton
from benchmarks.gpu.timing import latency, rate
from benchmarks.gpu.turns import add_turn_option, wait_for_turn
from cellclf.artifact.golden import golden_image
from cellclf.artifact.precisions import PRECISIONS
from cellclf.artifact.quantize import halved

Search = Literal["HEURISTIC", "EXHAUSTIVE"]
GOLDEN = 8
LATENCY_CALLS, BATCH_LATENCY_CALLS = 2000, 60


@dataclass(frozen=True)
class Choice:
    """What is searched. fuse_conv_bias has given wrong numbers elsewhere: like every choice it counts only where all of a batch's rows are right,
    before it is timed and after."""

    prefer_nhwc: bool = False
    search: Search = "HEURISTIC"
    max_workspace: bool = True
    cuda_graph: bool = False
    fuse_conv_bias: bool = False

    def options(self) -> dict[str, str]:
        """The CUDA provider's options."""
        return {
            "device_id": "0",
            "prefer_nhwc": str(int(self.prefer_nhwc)),
            "cudnn_conv_algo_search": self.search,
            "cudnn_conv_use_max_workspace": str(int(self.max_workspace)),
            "enable_cuda_graph": str(int(self.cuda_graph)),
            "arena_extend_strategy": "kSameAsRequested",
            "fuse_conv_bias": str(int(self.fuse_conv_bias)),
        }


class InvalidError(Exception):
    """This choice gives no figure; the text says why."""


@dataclass(frozen=True)
class Graph:
    """fp16 bytes of the graph, the golden images, and what fp32 on the CPU gives for those."""

    content: bytes
    golden: npt.NDArray[np.uint8]
    expected: npt.NDArray[np.float32]
    tolerance: float


@dataclass(frozen=True)
class Batch:
    """A graph at one batch size. images: the golden images over and over; expected: what fp32 gives for each."""

    graph: Graph
    images: npt.NDArray[np.uint8]
    expected: npt.NDArray[np.float32]

    @classmethod
    def of(cls, graph: Graph, size: int) -> "Batch":
        """Repeat, or cut, the golden images to one batch."""
        return cls(graph, np.resize(graph.golden, (size, *graph.golden.shape[1:])), np.resize(graph.expected, (size, graph.expected.shape[1])))


class Bound:
    """A session with input and output bound once on the device."""

    def __init__(self, batch: Batch, choice: Choice, *, check: bool) -> None:
        import onnxruntime

        device = "cpu" if check else "cuda"
        provider = "CPUExecutionProvider" if check else "CUDAExecutionProvider"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if check:
            options.intra_op_num_threads = 1
        options.add_free_dimension_override_by_name("batch", len(batch.images))
        if not check:
            # Without it, nodes that the provider does not take run on the CPU, with copies around them.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        chosen = (provider, {} if check else choice.options())
        try:
            self.session = onnxruntime.InferenceSession(batch.graph.content, options, providers=[chosen])
        except Exception as error:  # whatever the provider raises makes this choice invalid, and is kept
            raise InvalidError(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}") from error
        self.provider = str(self.session.get_providers()[0])
        if self.provider != provider:
            raise InvalidError(f"asked for {provider}, got {self.session.get_providers()}")
        self.input = onnxruntime.OrtValue.ortvalue_from_numpy(batch.images, device, 0)
        self.output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(batch.expected.shape, np.float32, device, 0)
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
    content = halved(whole).SerializeToString()  # which halves the weights become changes no time
    return Graph(content, golden, expected, PRECISIONS["fp16"].tolerance.golden)


def difference(bound: Bound, batch: Batch) -> float:
    """Largest difference of a probability from fp32 over every row of the batch, run through this very binding; raises InvalidError.

    The output is poisoned before, and by now a CUDA graph is captured, so what is compared is its replay.
    """
    bound.output.update_inplace(np.full(batch.expected.shape, np.nan, dtype=np.float32))
    largest, size = 0.0, len(batch.images)
    for start in range(0, GOLDEN, size):
        expected = batch.expected if size >= GOLDEN else batch.graph.expected[start : start + size]
        images = batch.images if size >= GOLDEN else batch.graph.golden[start : start + size]
        off = np.abs(bound.call_from_host(np.ascontiguousarray(images)) - expected)
        largest = max(largest, float(off.max()) if np.isfinite(off).all() else float("inf"))
    bound.input.update_inplace(batch.images)
    if not largest <= batch.graph.tolerance:
        raise InvalidError(f"probabilities differ from fp32 by {largest:.3g}; {batch.graph.tolerance:g} is allowed")
    return largest


def try_choice(batch: Batch, choice: Choice, options: argparse.Namespace) -> dict[str, Any]:
    """A quick figure of one choice, or why there is none."""
    row: dict[str, Any] = {"choice": asdict(choice)}
    started = time.perf_counter()
    try:
        bound = Bound(batch, choice, check=options.check)
        row["provider"] = bound.provider
        row["max_difference"] = difference(bound, batch)
        found = rate(bound.calls, items=len(batch.images), window_s=0.005 if options.check else 0.15, most=5)
        row["max_difference"] = max(row["max_difference"], difference(bound, batch))
        row |= {"images_per_second": found.per_second, "agree": found.agree}
    except InvalidError as error:
        row["invalid"] = str(error)
    except Exception as error:  # noqa: BLE001  # as above: a kernel that fails while running
        row["invalid"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
    row["seconds"] = time.perf_counter() - started
    gc.collect()
    say(json.dumps(row))
    return row


def stages(*, thorough: bool) -> list[Callable[[Choice], tuple[Choice, ...]]]:
    """What is tried on top of the best so far, the slow convolution search last."""
    found: list[Callable[[Choice], tuple[Choice, ...]]] = [
        lambda best: (replace(best, fuse_conv_bias=True),),
        lambda best: (replace(best, cuda_graph=True),),
        lambda best: (replace(best, search="EXHAUSTIVE"),),
    ]
    if thorough:
        found.append(lambda best: (replace(best, max_workspace=False), replace(best, prefer_nhwc=not best.prefer_nhwc)))
    return found


def measure(options: argparse.Namespace) -> None:
    """Every batch size in turn; the rows are written whenever there is a better figure."""
    graph = load_graph(options)
    wait_for_turn(options.turn)
    rows: list[dict[str, Any]] = []
    for size in options.batches:
        rows.append({"engine": "onnxruntime", "backbone": options.backbone, "batch": size, "image_size_px": graph.golden.shape[1]})
        rows[-1]["fp32_spread"] = float(graph.expected.std(axis=0).max())
        search(Batch.of(graph, size), rows[-1], lambda: store(options.result, rows), options)


def search(batch: Batch, row: dict[str, Any], keep: Callable[[], Any], options: argparse.Namespace) -> None:
    """Search one option after another, keeping what is faster, and time the best."""
    started = time.perf_counter()
    row["tried"] = [try_choice(batch, choice, options) for choice in (Choice(prefer_nhwc=True), Choice())]
    for more in stages(thorough=options.thorough):
        best = _fastest(row["tried"])
        keep()
        if best is None:
            break
        if time.perf_counter() - started > options.search_s:
            row["search_ended_early"] = True
            break
        row["tried"].extend(try_choice(batch, choice, options) for choice in more(best))
    found = _fastest(row["tried"])
    row |= {"invalid": "; ".join(tried["invalid"] for tried in row["tried"])} if found is None else timed(batch, found, options)
    keep()


def _fastest(tried: list[dict[str, Any]]) -> Choice | None:
    valid = [row for row in tried if "invalid" not in row]
    return Choice(**max(valid, key=lambda row: row["images_per_second"])["choice"]) if valid else None


def timed(batch: Batch, choice: Choice, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one choice."""
    bound, size = Bound(batch, choice, check=options.check), len(batch.images)
    row: dict[str, Any] = {"choice": asdict(choice), "provider": bound.provider, "max_difference": difference(bound, batch)}
    throughput = rate(bound.calls, items=size, window_s=0.005 if options.check else 0.5)
    calls = 6 if options.check else LATENCY_CALLS if size == 1 else BATCH_LATENCY_CALLS
    row["throughput"] = throughput.record()
    row["latency"] = latency(bound.call, calls=calls, warm_up=2 if options.check else 10).record()

    def from_host() -> None:
        bound.call_from_host(batch.images)

    row["latency_from_host"] = latency(from_host, calls=min(calls, 500), warm_up=2).record()
    row["max_difference"] = max(row["max_difference"], difference(bound, batch))
    row["unsteady"] = not throughput.agree
    return row


def main() -> None:
    """Print what is tried; write the row to --result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batches", type=int, nargs="*", default=(256, 1))
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--search-s", type=float, default=20, help="no further option is tried for a batch size after so long")
    parser.add_argument("--result", type=Path, required=True)
    add_turn_option(parser)
    options = parser.parse_args()
    if not options.check:
        import onnxruntime

        onnxruntime.preload_dlls()
    measure(options)


if __name__ == "__main__":
    main()
