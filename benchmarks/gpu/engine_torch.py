"""One backbone in compiled PyTorch, channels_last, fp16, in a process of its own: the peer, with a search of its own modes and the same checks."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.networks import build
from benchmarks.gpu.record import arguments, say, store
from benchmarks.gpu.skeleton import read_skeleton
from benchmarks.gpu.timing import latency, rate
from benchmarks.gpu.torch_peer import TOLERANCE, Call, NotTheSameError, compiled, graphed, same_work, settled, wait
from benchmarks.gpu.turns import add_turn_option, wait_for_turn
from cellclf.artifact.golden import golden_image

GOLDEN = 8
LATENCY_CALLS, BATCH_LATENCY_CALLS = 2000, 60


def measure(options: argparse.Namespace) -> None:
    """Every batch size: compiled before the turn, without a convolution search; searched, checked and timed in it."""
    import torch._inductor.config

    device = torch.device("cpu" if options.check else "cuda")
    if options.check:
        torch.set_num_threads(1)
    torch._inductor.config.freezing = True  # folds batch norms, lays weights out once
    skeleton = read_skeleton(options.carry / "skeletons" / f"{options.backbone}.onnx.gz")
    size = skeleton.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    golden = torch.from_numpy(np.stack([golden_image(seed, height_px=size, width_px=size) for seed in range(GOLDEN)]))
    network = build(options.backbone)
    try:
        work = same_work(network, skeleton, size)
    except NotTheSameError as error:
        raise SystemExit(str(error)) from error
    network = settled(network, golden)
    with torch.inference_mode():
        expected = network(golden)
    half = torch.bfloat16 if options.check else torch.float16  # the CPU's compiled fp16 is not worth a check
    network = network.to(device=device, dtype=half, memory_format=torch.channels_last)
    peers = [Peer.made(network, golden, expected, batch, device, really=not options.no_compile) for batch in options.batches]
    wait_for_turn(options.turn)
    torch.backends.cudnn.benchmark = True  # alone on the GPU from here on, so what the search finds is true
    rows: list[dict[str, Any]] = []
    for peer in peers:
        rows.append({"engine": "torch.compile", "backbone": options.backbone, "batch": len(peer.images), "image_size_px": size, **work})
        rows[-1] |= best_of(peer, options)
        store(options.result, rows)


@dataclass(frozen=True)
class Peer:
    """One compiled network at one batch size. images: its buffer on the device; expected: fp32 probabilities of each of them."""

    call: Call
    images: torch.Tensor
    expected: torch.Tensor
    compile_s: float

    @classmethod
    def made(cls, network: Any, golden: torch.Tensor, expected: torch.Tensor, batch: int, device: torch.device, *, really: bool) -> "Peer":
        """Compile for this very shape, and run once."""
        repeats = -(-batch // GOLDEN)
        images = golden.repeat(repeats, 1, 1, 1)[:batch].contiguous().to(device)
        call = compiled(network, images, really=really)
        started = time.perf_counter()
        call()
        wait(images)
        return cls(call, images, expected.repeat(repeats, 1)[:batch], time.perf_counter() - started)


def best_of(peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of the faster of its modes: kernels launched one by one, or replayed as one CUDA graph."""
    row: dict[str, Any] = {"tried": []}
    fastest = 0.0
    modes: tuple[tuple[str, Callable[[], Call]], ...] = (("default", lambda: peer.call), ("CUDA graph", lambda: graphed(peer.call)))
    for mode, call in modes:
        if mode != "default" and peer.images.device.type != "cuda":
            continue
        found: dict[str, Any] = {"mode": mode, "compile_s": peer.compile_s}
        row["tried"].append(found)
        try:
            found |= _checked(ready := call(), peer, options)
        except (RuntimeError, AssertionError) as error:
            found["invalid"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        say(json.dumps(found))
        if found.get("images_per_second", 0.0) > fastest:
            fastest, best = found["images_per_second"], (mode, ready)
    if not fastest:
        return row | {"invalid": "; ".join(found["invalid"] for found in row["tried"])}
    difference = next(found["max_difference"] for found in row["tried"] if found["mode"] == best[0])
    provider = str(peer.images.device)
    return row | {"choice": {"mode": best[0]}, "provider": provider, "max_difference": difference, **timed(best[1], peer.images, options)}


def _checked(call: Call, peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    """Compare every row with fp32, then a quick figure."""
    for _ in range(3):
        found = call()
    difference = float((found.float().cpu() - peer.expected).abs().max())
    if not difference <= TOLERANCE * (3 if options.check else 1):
        raise AssertionError(f"probabilities differ from fp32 by {difference:.3g}")
    quick = rate(_repeated(call, peer.images), items=len(peer.images), window_s=0.005 if options.check else 0.2, most=6)
    return {"max_difference": difference, "images_per_second": quick.per_second}


def timed(call: Call, images: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one mode."""
    throughput = rate(_repeated(call, images), items=len(images), window_s=0.005 if options.check else 0.5)
    calls = 6 if options.check else LATENCY_CALLS if len(images) == 1 else BATCH_LATENCY_CALLS
    return {
        "throughput": throughput.record(),
        "latency": latency(_waiting(call, images), calls=calls, warm_up=2 if options.check else 10).record(),
        "latency_from_host": latency(_from_host(call, images), calls=min(calls, 500), warm_up=2).record(),
        "unsteady": not throughput.agree,
    }


def _repeated(call: Call, images: torch.Tensor) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()
        wait(images)

    return run


def _waiting(call: Call, images: torch.Tensor) -> Callable[[], None]:
    def once() -> None:
        call()
        wait(images)

    return once


def _from_host(call: Call, images: torch.Tensor) -> Callable[[], None]:
    host = images.cpu()
    if images.device.type == "cuda":
        host = host.pin_memory()

    def once() -> None:
        images.copy_(host, non_blocking=True)
        call().cpu()

    return once


def main() -> None:
    """Print what is tried; write the rows to --result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batches", type=int, nargs="*", default=(256, 1))
    parser.add_argument("--no-compile", action="store_true", help="with --check: eager, where there is no C++ compiler")
    parser.add_argument("--result", type=Path, required=True)
    add_turn_option(parser)
    options = parser.parse_args()
    measure(options)


if __name__ == "__main__":
    main()
