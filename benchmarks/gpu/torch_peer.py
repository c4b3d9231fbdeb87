"""What makes PyTorch a fair peer: the same work as ours, batch norms that know their inputs, the faster of its modes. Needs PyTorch."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.networks import WRITTEN, build
from benchmarks.gpu.work import multiply_adds
from cellclf.artifact.golden import golden_image

__all__ = ["TOLERANCE", "Call", "NotTheSameError", "compiled", "graphed", "of_file", "quickest", "same_work", "settled", "wait"]

SAME_WORK = 0.02
TOLERANCE = 0.02
"""How far a probability in half precision may lie from fp32's."""

_TRIED_S = 0.2
_GOLDEN = 8

Call = Callable[[], torch.Tensor]
Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


class NotTheSameError(Exception):
    """There is no PyTorch network that does the same work."""


def of_file(file: Path, *, device: str, really: bool = True) -> Callable[[int], Run]:
    """The network of an exported file in compiled PyTorch, random weights: a batch size → images uint8 [batch, H, W, 3] → probabilities.

    Half precision (bfloat16 on a CPU, which is for checks), channels last. Images come from ordinary memory by way of a pinned buffer. Raises
    NotTheSameError; RuntimeError where half precision gives other numbers than fp32. really: as `compiled` has it.
    """
    import onnx
    import torch._inductor.config

    from cellclf.card import read_model_file

    card = read_model_file(file).card
    if card.backbone not in WRITTEN:
        raise NotTheSameError(f"{card.backbone} is not written in PyTorch here")
    torch._inductor.config.freezing = True  # folds batch norms, lays weights out once
    torch.backends.cudnn.benchmark = True
    network = build(card.backbone, hidden=card.recipe["hidden"], classes=len(card.labels))
    same_work(network, onnx.load(file), card.height_px)
    golden = torch.from_numpy(np.stack([golden_image(seed, height_px=card.height_px, width_px=card.width_px) for seed in range(_GOLDEN)]))
    network = settled(network, golden)
    with torch.no_grad():
        expected = network(golden)
    half = torch.bfloat16 if device == "cpu" else torch.float16
    network = network.to(device=device, dtype=half, memory_format=torch.channels_last)

    def runner(batch: int) -> Run:
        repeats = -(-batch // _GOLDEN)
        host = golden.repeat(repeats, 1, 1, 1)[:batch].contiguous()
        host = host if device == "cpu" else host.pin_memory()
        images = host.to(device, copy=True)
        plain = compiled(network, images, really=really)
        call = plain if device == "cpu" else quickest([plain, graphed(plain)], images)
        difference = float((call().float().cpu() - expected.repeat(repeats, 1)[:batch]).abs().max())
        if not difference <= TOLERANCE * (1 if device != "cpu" else 3):
            raise RuntimeError(f"PyTorch's probabilities differ from fp32 by {difference:.3g}")

        def run(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            host.copy_(torch.from_numpy(pixels))
            images.copy_(host, non_blocking=True)
            values: npt.NDArray[np.float32] = call().float().cpu().numpy()
            return values

        return run

    return runner


def same_work(network: Any, model: Any, size: int) -> dict[str, float]:
    """Multiply-adds of a network and of an onnx.ModelProto for one image; raises NotTheSameError where they differ by more than SAME_WORK."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(network).eval().to("meta")(torch.zeros(1, size, size, 3, dtype=torch.uint8, device="meta"))
    ours, peers = multiply_adds(model), counter.get_total_flops() / 2
    if abs(peers / ours - 1) > SAME_WORK:
        raise NotTheSameError(f"the PyTorch network does {peers:.3g} multiply-adds, ours {ours:.3g}: not the same network")
    return {"multiply_adds": peers, "multiply_adds_over_ours": peers / ours}


def settled(network: Any, images: torch.Tensor) -> Any:
    """Batch norms that know their inputs, as after training; VGG16 has none and needs none."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(images)
    return network.eval()


def compiled(network: Any, images: torch.Tensor, *, really: bool = True) -> Call:
    """The network compiled for the very shape of these images, which stay where they are. really=False: eager, where there is no compiler."""
    function = torch.compile(network, dynamic=False) if really else network

    def call() -> torch.Tensor:
        with torch.no_grad():
            values: torch.Tensor = function(images)
            return values

    return call


def graphed(call: Call) -> Call:
    """The same kernels, captured once as a CUDA graph and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values = call()

    def replay() -> torch.Tensor:
        graph.replay()
        return values

    return replay


def quickest(calls: list[Call], images: torch.Tensor) -> Call:
    """The one that made most calls in a fifth of a second."""

    def rate(call: Call) -> float:
        call()
        wait(images)
        started, made = time.perf_counter(), 0
        while time.perf_counter() < started + _TRIED_S:
            call()
            wait(images)
            made += 1
        return made / (time.perf_counter() - started)

    return max(calls, key=rate)


def wait(images: torch.Tensor) -> None:
    """Until the device that holds these is done."""
    if images.device.type == "cuda":
        torch.cuda.synchronize()
