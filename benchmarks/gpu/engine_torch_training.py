"""Training speed of one backbone in compiled PyTorch: bf16 autocast, channels_last, fused Adam, data on the card; the peer."""

import argparse
import json
import time
from typing import Any

import torch

from benchmarks.gpu.engine_keras import IMAGES
from benchmarks.gpu.networks import build
from benchmarks.gpu.record import arguments, image_size_px, say
from benchmarks.gpu.timing import rate
from benchmarks.gpu.turns import add_turn_option, wait_for_turn


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images a second in steady state, of the faster mode."""
    row: dict[str, Any] = {"engine": "torch.compile", "backbone": options.backbone, "batch": options.batch}
    tried = []
    for mode in ("eager",) if options.check else options.modes:
        try:
            tried.append({"mode": mode, **_speed(mode, options)})
        except RuntimeError as error:
            tried.append({"mode": mode, "invalid": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"})
        say(json.dumps(tried[-1]))
        valid = [found for found in tried if "per_second" in found]
        best = max(valid, key=lambda found: found["per_second"]) if valid else {"invalid": "; ".join(found["invalid"] for found in tried)}
        row |= {"tried": tried, "plain": best}
        with open(options.result, "w", encoding="utf-8") as stream:  # noqa: PTH123
            json.dump(row, stream)
    return row


def _speed(mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """One mode."""
    device = torch.device("cpu" if options.check else "cuda")
    size = options.size or image_size_px(options.backbone)
    count = 2 * options.batch if options.check else IMAGES
    network = build(options.backbone).to(device=device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, fused=device.type == "cuda", capturable=device.type == "cuda")
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, device=device)
    truth = torch.randint(0, 4, (count,), device=device)

    def forward(batch: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return torch.nn.functional.cross_entropy(network(batch).float(), labels)

    compiled = forward if mode == "eager" else torch.compile(forward, mode=None if mode == "default" else mode)
    losses = []

    def run(calls: int) -> None:
        for _ in range(calls):
            rows = torch.randint(0, count, (options.batch,), device=device)
            optimizer.zero_grad(set_to_none=mode != "reduce-overhead")
            loss = compiled(images[rows], truth[rows])
            loss.backward()
            optimizer.step()
        losses.append(float(loss))  # waits for the device

    started = time.perf_counter()
    run(1)
    compile_s = time.perf_counter() - started
    if device.type == "cuda":
        torch.cuda.empty_cache()  # others train meanwhile
    wait_for_turn(options.turn)
    torch.backends.cudnn.benchmark = True  # alone from here on
    run(3)
    found = rate(run, items=options.batch, window_s=0.01 if options.check else 1.5)
    if not all(value == value for value in losses):
        raise RuntimeError("the loss is no longer a number")
    return found.record() | {"compile_s": compile_s, "device": str(device), "first_loss": losses[0], "last_loss": losses[-1]}


def main() -> None:
    """Write the row to --result after each mode."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--modes", nargs="*", default=("default", "reduce-overhead"))
    parser.add_argument("--result", required=True)
    add_turn_option(parser)
    options = parser.parse_args()
    if options.check:
        torch.set_num_threads(1)
    measure(options)


if __name__ == "__main__":
    main()
