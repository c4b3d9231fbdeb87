"""Inference in fp16: our engines beside compiled PyTorch and the roofline, sitting by sitting, and what of the targets is reached."""

from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.record import STUDY_BACKBONES, Result, title
from benchmarks.gpu.sittings import NOT_YET

__all__ = ["inference_lines"]

TARGET_RATIO = {"resnet50": 1.0, "inceptionv3": 1.0, "vgg16": 1.0, "mobilenet": 0.85, "xception": 0.85}
"""Ours ÷ compiled PyTorch at batch 256."""
OURS = ("onnxruntime", "xla")
REMARKS = {
    "inference-xla": (
        "Measured while the engine was being written. depthwise=grouped is what it does now (strided=grouped); depthwise=shifted, every depthwise "
        "convolution as a sum of shifted images, was slower and is gone. graph=whole is not yet measured on a GPU."
    ),
    "inference-xla-2": (
        "stem and pool are ways that brought nothing and are gone. PyTorch's compilers were still at work while MobileNet and InceptionV3 were "
        "timed, and the time was up before the last two."
    ),
}
"""What a sitting's own figures do not tell."""
TARGET_P99_MS = 0.6
"""Of single images through ResNet50."""


def inference_lines(results: dict[str, Result], ceilings: Result | None) -> list[str]:
    """The better engine of each backbone, then every row of each sitting."""
    if not results:
        return [f"ONNX Runtime's CUDA provider and XLA against compiled PyTorch: {NOT_YET}."]
    bounds = {(row["backbone"], row["batch"]): row for row in (ceilings.rows if ceilings else ()) if row["what"] == "roofline"}
    lines = _reached(results)
    for name, result in results.items():
        lines += [
            "",
            f"{name}:" + ("" if name not in REMARKS else f" {REMARKS[name]}"),
            "",
            "| backbone, px, batch | engine | images/s | of roofline | ÷ torch.compile | target | p50 / p90 / p99 ms | with copies p50 / p99 ms "
            "| max Δp | options |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        peers = {(row["backbone"], row["batch"]): row for row in result.rows if row["engine"] == "torch.compile" and "throughput" in row}
        ordered = sorted(result.rows, key=lambda row: (STUDY_BACKBONES.index(row["backbone"]), -row["batch"], row["engine"]))
        lines += [_inference_row(row, bounds.get((row["backbone"], row["batch"])), peers.get((row["backbone"], row["batch"]))) for row in ordered]
    return [
        *lines,
        "",
        "onnxruntime: the provider `cuda`; xla: the provider `xla`, whose copies come from ordinary memory in one piece. Each ratio is to the",
        "PyTorch of the same sitting; the table at the top takes the mean of the sittings.",
        "Options of ONNX Runtime are tried one on top of the other (layout, bias within the convolution, CUDA graph, exhaustive search); every row",
        "of a batch is compared with fp32 on the CPU before and after. PyTorch: default mode, the faster of plain and CUDA graph; no max-autotune.",
        "A row marked stopped had no time left to try CUDA graphs. XLA's ways are compiled beside the other processes, then timed in turns.",
        "Buffers are bound once on the card; 'with copies' brings the uint8 images from the host and the probabilities back (PyTorch's from pinned",
        "memory).",
        "images/s: calls are given one behind the other and only the last is waited for; ms: each call is waited for.",
        f"{_p99_verdict(results)} A row without figures is invalid, not slow.",
    ]


def _inference_row(row: dict[str, Any], bound: dict[str, Any] | None, peer: dict[str, Any] | None) -> str:
    start = f"| {title(row['backbone'])}, {row.get('image_size_px', '')}, {row['batch']} | {row['engine']} |"
    if "throughput" not in row:
        return f"{start} invalid: {row['invalid'].replace('|', '/')} ||||||||"
    speed, ms, copies = row["throughput"]["per_second"], row["latency"]["ms"], row["latency_from_host"]["ms"]
    share = f"{speed / bound['images_per_second']:.0%}" if bound else ""
    ours = row["engine"] in OURS
    ratio = f"{speed / peer['throughput']['per_second']:.2f} (by p50 {peer['latency']['ms']['50'] / ms['50']:.2f})" if peer and ours else ""
    target = _verdict(row["backbone"], speed, peer) if ours and row["batch"] > 1 else ""
    named = row["engine"] == "xla"
    chosen = ", ".join(
        name if value is True else f"{name}={value}" if named else str(value) for name, value in row["choice"].items() if value is not False
    )
    unsteady = " (windows differ)" if row.get("unsteady") else ""
    unsteady += " (stopped)" if row.get("stopped") else ""
    return (
        f"{start} {speed:,.0f}{unsteady} | {share} | {ratio} | {target} | {ms['50']:.3f} / {ms['90']:.3f} / {ms['99']:.3f} "
        f"| {copies['50']:.3f} / {copies['99']:.3f} | {row['max_difference']:.1g} | {chosen} |"
    )


def _reached(results: dict[str, Result]) -> list[str]:
    """For each backbone the better of our engines beside the peer of its own sittings, at the target's batch size; judged by the mean sitting."""
    told = []
    for backbone in STUDY_BACKBONES:
        sittings = {engine: _against_peer(results, backbone, engine) for engine in OURS}
        found = {engine: each for engine, each in sittings.items() if each}
        if found:
            engine = max(found, key=lambda name: _mean([each.on_card for each in found[name]]))
            ratios = [each.on_card for each in found[engine]]
            verdict = "reached" if _mean(ratios) >= TARGET_RATIO[backbone] else "MISSED"
            told.append(
                f"| {title(backbone)} | {engine} | {_mean(ratios):.2f} | {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
                f"| {', '.join(each.usual for each in found[engine])} | {', '.join(f'{each.copied:.2f}' for each in found[engine])} "
                f"| {TARGET_RATIO[backbone]:.2f} | {verdict} |"
            )
    header = (
        "| batch 256 | the better of our engines | images on the card, ÷ torch.compile | each sitting | its default way, a quick figure "
        "| with copies, ÷ torch.compile's from pinned memory | target, on the card | |"
    )
    return [header, "|---" * 8 + "|", *told]


@dataclass(frozen=True)
class _AgainstPeer:
    """Our speed over torch.compile's in one sitting: images on the card, its default way so ('' where it was not timed), with copies."""

    on_card: float
    usual: str
    copied: float


def _against_peer(results: dict[str, Result], backbone: str, engine: str) -> list[_AgainstPeer]:
    """One for each sitting that has both."""
    found = []
    for result in results.values():
        rows = {row["engine"]: row for row in result.rows if _many(row, backbone)}
        if engine in rows and "torch.compile" in rows:
            own, peer = rows[engine], rows["torch.compile"]
            speed = peer["throughput"]["per_second"]
            usual = f"{own['tried'][0]['images_per_second'] / speed:.2f}" if engine == "xla" and own.get("tried") else ""
            copied = peer["latency_from_host"]["ms"]["50"] / own["latency_from_host"]["ms"]["50"]
            found.append(_AgainstPeer(own["throughput"]["per_second"] / speed, usual, copied))
    return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _many(row: dict[str, Any], backbone: str) -> bool:
    return row["backbone"] == backbone and row["batch"] > 1 and "throughput" in row


def _verdict(backbone: str, speed: float, peer: dict[str, Any] | None) -> str:
    wanted = TARGET_RATIO[backbone]
    reached = "" if peer is None else ": reached" if speed >= wanted * peer["throughput"]["per_second"] else ": MISSED"
    return f"≥ {wanted:.2f}{reached}"


def _p99_verdict(results: dict[str, Result]) -> str:
    rows = [row for result in results.values() for row in result.rows if row["engine"] in OURS and "latency" in row]
    found = [row["latency"]["ms"]["99"] for row in rows if (row["backbone"], row["batch"]) == ("resnet50", 1)]
    reached = "" if not found else " reached" if min(found) <= TARGET_P99_MS else " MISSED"
    return f"ResNet50 at batch 1, p99 ≤ {TARGET_P99_MS} ms:{reached or f' {NOT_YET}'}."
