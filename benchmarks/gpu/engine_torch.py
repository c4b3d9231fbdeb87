"""One backbone in compiled PyTorch, channels_last, fp16, in a process of its own: the peer, with a search of its own modes and the same checks."""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.networks import build
from benchmarks.gpu.record import arguments, say
from benchmarks.gpu.skeleton import read_skeleton
from benchmarks.gpu.timing import latency, rate
from benchmarks.gpu.work import multiply_adds
from cellclf.artifact.golden import golden_image

GOLDEN = 8
TOLERANCE = 0.02
SAME_WORK = 0.02
LATENCY_CALLS = 2000
THOROUGH_MODES = ("default", "reduce-overhead", "max-autotune")


def measure(options: argparse.Namespace) -> None:
    """The figures of one backbone and batch with the fastest mode, written whenever there are better ones."""
    device = torch.device("cpu" if options.check else "cuda")
    if options.check:
        torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    skeleton = read_skeleton(options.carry / "skeletons" / f"{options.backbone}.onnx.gz")
    size = skeleton.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    golden = torch.from_numpy(np.stack([golden_image(seed, height_px=size, width_px=size) for seed in range(GOLDEN)]))
    network = build(options.backbone)
    work = compare_work(network, skeleton, size)
    network = _settled(network, golden)
    with torch.inference_mode():
        expected = network(golden)
    half = torch.bfloat16 if options.check else torch.float16  # the CPU's compiled fp16 is not worth a check
    network = network.to(device=device, dtype=half, memory_format=torch.channels_last)
    images = golden.repeat(-(-options.batch // GOLDEN), 1, 1, 1)[: options.batch].to(device)
    row: dict[str, Any] = {
        "engine": "torch.compile",
        "backbone": options.backbone,
        "batch": options.batch,
        "image_size_px": size,
        "tried": [],
        **work,
    }
    fastest = 0.0
    for mode in _modes(options):
        found, call = try_mode(network, images, expected, mode, options)
        row["tried"].append(found)
        say(json.dumps(found))
        if call and found["images_per_second"] > fastest and not options.compile_only:
            fastest = found["images_per_second"]
            row |= {"choice": {"mode": mode}, "provider": str(device), "max_difference": found["max_difference"], **timed(call, images, options)}
        if "throughput" not in row:
            row["invalid"] = "; ".join(found.get("invalid", "") for found in row["tried"])
        else:
            row.pop("invalid", None)
        options.result.write_text(json.dumps(row), encoding="utf-8")


def compare_work(network: Any, skeleton: Any, size: int) -> dict[str, float]:
    """Multiply-adds of both networks for one image; refuses a peer whose differ by more than SAME_WORK."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(network).eval().to("meta")(torch.zeros(1, size, size, 3, dtype=torch.uint8, device="meta"))
    ours, peers = multiply_adds(skeleton), counter.get_total_flops() / 2
    if abs(peers / ours - 1) > SAME_WORK:
        raise SystemExit(f"the PyTorch network does {peers:.3g} multiply-adds, ours {ours:.3g}: not the same network")
    return {"multiply_adds": peers, "multiply_adds_over_ours": peers / ours}


def _modes(options: argparse.Namespace) -> tuple[str, ...]:
    """CUDA graphs (reduce-overhead) save launches: all of a single image's time, next to nothing of a large batch's."""
    if options.no_compile:
        return ("eager",)
    if options.thorough:
        return THOROUGH_MODES
    return ("reduce-overhead",) if options.batch == 1 else ("default",)


def timed(call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one mode."""
    throughput = rate(_repeated(call, images), items=options.batch, window_s=0.005 if options.check else 0.6)
    calls = 6 if options.check else LATENCY_CALLS if options.batch == 1 else 200
    return {
        "throughput": throughput.record(),
        "latency": latency(_waiting(call, images), calls=calls, warm_up=2 if options.check else 50).record(),
        "latency_from_host": latency(_from_host(call, images), calls=min(calls, 500), warm_up=2).record(),
        "unsteady": not throughput.agree,
    }


def try_mode(
    network: Any, images: torch.Tensor, expected: torch.Tensor, mode: str, options: argparse.Namespace
) -> tuple[dict[str, Any], Callable[[torch.Tensor], torch.Tensor] | None]:
    """Compile in one mode with batch norms folded (freezing), compare with fp32, time it briefly."""
    import torch._dynamo
    import torch._inductor.config

    row: dict[str, Any] = {"mode": mode}
    torch._dynamo.reset()
    torch._inductor.config.freezing = mode != "eager"
    compiled = network if mode == "eager" else torch.compile(network, mode=None if mode == "default" else mode)

    def call(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return compiled(batch)  # type: ignore[no-any-return]

    started = time.perf_counter()
    try:
        found = call(images)[:GOLDEN].float().cpu()
        row["compile_s"] = time.perf_counter() - started
        row["max_difference"] = float((found - expected[: len(found)]).abs().max())
        if not row["max_difference"] <= TOLERANCE * (3 if options.check else 1):
            return row | {"invalid": f"probabilities differ from fp32 by {row['max_difference']:.3g}"}, None
        if options.compile_only:
            return row, None
        row["images_per_second"] = rate(_repeated(call, images), items=len(images), window_s=0.005 if options.check else 0.25).per_second
    except (RuntimeError, AssertionError, torch._dynamo.exc.TorchDynamoException) as error:
        return row | {"invalid": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}, None
    return row, call


def _settled(network: Any, golden: torch.Tensor) -> Any:
    """Batch norms that know their inputs, as after training; VGG16 has none and needs none."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(golden)
    return network.eval()


def _repeated(call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call(images)
        _wait(images)

    return run


def _waiting(call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Callable[[], None]:
    def once() -> None:
        call(images)
        _wait(images)

    return once


def _from_host(call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Callable[[], None]:
    host = images.cpu()
    if images.device.type == "cuda":
        host = host.pin_memory()

    def once() -> None:
        images.copy_(host, non_blocking=True)
        call(images).cpu()

    return once


def _wait(images: torch.Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print what is tried; write the row to --result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--no-compile", action="store_true", help="with --check: eager, where there is no C++ compiler")
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache and time nothing")
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    measure(options)


if __name__ == "__main__":
    main()
