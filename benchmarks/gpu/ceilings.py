"""What the machine can do at most: matrix rates, copy bandwidth, host → device; and each backbone's roofline from them. Needs torch and onnx."""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, save, say
from benchmarks.gpu.skeleton import read_skeleton
from benchmarks.gpu.timing import rate
from benchmarks.gpu.work import roofline

MATRIX = 8192
COPY_BYTES = 4 << 30
HOST_BYTES = 1 << 30
BATCHES = (1, 256)


def main() -> None:
    """Measure and write ceilings.json."""
    options = arguments(__doc__ or "").parse_args()
    device = torch.device("cpu" if options.check else "cuda")
    if options.check:
        torch.set_num_threads(1)
    rows = [*matrix_rates(device, options.check), copy_bandwidth(device, options.check), *host_to_device(device, options.check)]
    rows += rooflines(rows, options)
    for row in rows:
        say("  ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items() if name != "measured"))
    save("ceilings", rows, options)


def matrix_rates(device: torch.device, check: bool) -> list[dict[str, Any]]:
    """TFLOP/s of a square product of normal random matrices, 2 operations a multiply-add."""
    size = 128 if check else MATRIX
    rows = []
    for name, kind, tf32 in (("bf16", torch.bfloat16, False), ("fp16", torch.float16, False), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        out = torch.empty(size, size, device=device, dtype=kind)
        exact = left[:64].double() @ right.double()
        error = float((torch.mm(left, right)[:64].double() - exact).norm() / exact.norm())
        found = rate(_repeated(lambda left=left, right=right, out=out: torch.mm(left, right, out=out), device), items=1, window_s=window_s(device))  # type: ignore[misc]
        rows.append(
            {"what": f"matmul {name}", "size": size, "tflops": found.per_second * 2 * size**3 / 1e12, "error": error, "measured": found.record()}
        )
        if not error < 1e-2:
            raise SystemExit(f"matmul {name}: the product is wrong by {error:.2g}")
    return rows


def copy_bandwidth(device: torch.device, check: bool) -> dict[str, Any]:
    """GB/s of a copy within the device's memory, bytes read plus bytes written."""
    size = (1 << 20) if check else COPY_BYTES
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = rate(_repeated(lambda: target.copy_(source), device), items=1, window_s=window_s(device))
    return {"what": "copy", "bytes": size, "gb_per_second": found.per_second * 2 * size / 1e9, "measured": found.record()}


def host_to_device(device: torch.device, check: bool) -> list[dict[str, Any]]:
    """GB/s from pinned and from ordinary host memory."""
    size = (1 << 20) if check else HOST_BYTES
    target = torch.empty(size, dtype=torch.uint8, device=device)
    rows = []
    for name in ("pageable", "pinned"):
        source = torch.randint(0, 256, (size,), dtype=torch.uint8)
        if name == "pinned" and device.type == "cuda":
            source = source.pin_memory()
        found = rate(_repeated(lambda source=source: target.copy_(source, non_blocking=True), device), items=1, window_s=window_s(device))  # type: ignore[misc]
        rows.append({"what": f"host to device, {name}", "bytes": size, "gb_per_second": found.per_second * size / 1e9, "measured": found.record()})
    return rows


def rooflines(measured: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each backbone's bound at the measured fp16 rate and copy bandwidth; of the skeletons that are there."""
    by_name = {row["what"]: row for row in measured}
    tflops, bandwidth = by_name["matmul fp16"]["tflops"], by_name["copy"]["gb_per_second"] * 1e9
    rows = []
    for backbone in STUDY_BACKBONES:
        path = options.carry / "skeletons" / f"{backbone}.onnx.gz"
        if not path.exists():
            say(f"no roofline of {backbone}: {path} is not there")
            continue
        model = read_skeleton(path)
        size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        for batch in BATCHES:
            bound = roofline(model, tflops=tflops, bytes_per_second=bandwidth, batch=batch)
            rows.append({"what": "roofline", "backbone": backbone, "image_size_px": size, "batch": batch, **vars(bound)})
    return rows


def window_s(device: torch.device) -> float:
    """Seconds of a window; next to none where nothing is measured."""
    return 0.5 if device.type == "cuda" else 0.005


def _repeated(call: Callable[[], Any], device: torch.device) -> Callable[[int], None]:
    """n calls, then wait for the device."""

    def run(calls: int) -> None:
        for _ in range(calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    main()
