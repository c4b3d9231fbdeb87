"""JSON of the GPU scripts → docs/results/gpu.md; no figure is typed. Where a script has not run on a GPU, the page says so.

Reads docs/results/gpu/*.json, where the JSON that came back from the machine is put.
"""

from pathlib import Path
from typing import Any

from benchmarks.gpu.measurements import as_benchmark_json, costs, gpu_measurements, pays_lines
from benchmarks.gpu.record import STUDY_BACKBONES, Result
from cellclf.backbones import BACKBONES
from cellclf.studies.measurements import read_measurements

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
NOT_YET = "not yet measured on a GPU"
TARGET_RATIO = {"resnet50": 1.0, "inceptionv3": 1.0, "vgg16": 1.0, "mobilenet": 0.85, "xception": 0.85}
"""CUDA provider ÷ compiled PyTorch at batch 256."""
TARGET_TRAINING, TARGET_INPUT, TARGET_STUDY_S, TARGET_P99_MS = 0.8, 0.02, 600, 0.6


def main() -> None:
    """Write the page, and gpu.json for `cellclf report` and `choose`."""
    (RESULTS / "gpu.md").write_text(page(RESULTS / "gpu"), encoding="utf-8")
    if (measured := RESULTS / "gpu" / "inference.json").exists():
        found = gpu_measurements(Result.read(measured), read_measurements(RESULTS / "cpu.json"))
        (RESULTS / "gpu.json").write_text(as_benchmark_json(found), encoding="utf-8")


def page(folder: Path) -> str:
    """The whole page from the JSON files in a folder, which need not exist."""
    found = {path.stem: Result.read(path) for path in sorted(folder.glob("*.json"))}
    found = {name: result for name, result in found.items() if not result.check and result.machine.gpu}
    missing = "" if found else f" So far every table is empty: {NOT_YET}."
    lines = [
        "# GPU",
        "",
        f"Written by `python -m benchmarks.gpu.page` from gpu/*.json; no figure is typed.{missing}",
        "How the figures are made: benchmarks/gpu/README.md.",
        "Weights do not change the speed: networks are filled with seeded random weights, and their numbers are compared with fp32 on the CPU first.",
    ]
    lines += ["", "## Machine", "", *_machines(found)]
    lines += ["", "## Ceilings", "", *_ceilings(found.get("ceilings"))]
    lines += ["", "## Inference, fp16", "", *_inference(found.get("inference"), found.get("ceilings"))]
    lines += ["", "## When a GPU pays", "", *_pays(found.get("inference"), folder.parent / "cpu.json")]
    lines += ["", "## Training speed, bf16", "", *_training(found.get("training"))]
    lines += ["", "## Depthwise convolutions in training, JAX", "", *_depthwise(found.get("depthwise"))]
    lines += ["", "## The four-backbone blood-cell study", "", *_study(found)]
    return "\n".join(lines) + "\n"


def _machines(found: dict[str, Result]) -> list[str]:
    if not found:
        return [f"GPU: {NOT_YET}."]
    lines = []
    for name, result in found.items():
        gpu, environment = result.machine.gpu, result.machine.environment
        packages = {**environment.packages, **result.machine.packages}
        commit = f", commit {environment.git_commit}" if environment.git_commit else ""
        versions = ", ".join(f"{package} {version}" for package, version in packages.items())
        lines.append(
            f"- {name} (`{result.command}`{commit}): {gpu['name']}, driver {gpu['driver_version']}, clocks after the work SM "
            f"{gpu['clocks.sm']}, memory {gpu['clocks.mem']}, {gpu['temperature.gpu']} °C; {environment.cpu}, {environment.cores} cores; "
            f"Python {environment.python}, {versions}"
        )
    return lines


def _ceilings(result: Result | None) -> list[str]:
    if result is None:
        return [f"Matrix rates, bandwidths and rooflines: {NOT_YET}."]
    lines = ["| | |", "|---|---|"]
    for row in result.rows:
        if "tflops" in row:
            lines.append(f"| {row['what']}, {row['size']}³ | {row['tflops']:.0f} TFLOP/s |")
        elif "gb_per_second" in row:
            lines.append(f"| {row['what']} | {row['gb_per_second']:.1f} GB/s |")
    lines += ["", "| backbone | px | multiply-adds | roofline at batch 256, images/s | layer by layer |", "|---|---|---|---|---|"]
    for row in result.rows:
        if row["what"] == "roofline" and row["batch"] == 256:
            lines.append(
                f"| {_title(row['backbone'])} | {row['image_size_px']} | {row['multiply_adds'] / 1e9:.2f} G | {row['images_per_second']:,.0f} "
                f"| {row['layer_by_layer']:,.0f} |"
            )
    return [
        *lines,
        "",
        "Roofline: the longer of all arithmetic at the measured fp16 matrix rate, and every layer's input, weights and output moved once at the",
        "measured copy bandwidth. Layer by layer: each layer waits for the slower of its own two.",
    ]


def _inference(result: Result | None, ceilings: Result | None) -> list[str]:
    if result is None:
        return [f"ONNX Runtime's CUDA provider against compiled PyTorch: {NOT_YET}."]
    bounds = {(row["backbone"], row["batch"]): row for row in (ceilings.rows if ceilings else ()) if row["what"] == "roofline"}
    lines = [
        "| backbone, px, batch | engine | images/s | of roofline | ÷ torch.compile | target | p50 / p90 / p99 ms | with copies p50 / p99 ms | max Δp "
        "| options |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    peers = {(row["backbone"], row["batch"]): row for row in result.rows if row["engine"] == "torch.compile" and "throughput" in row}
    ordered = sorted(result.rows, key=lambda row: (STUDY_BACKBONES.index(row["backbone"]), -row["batch"], row["engine"]))
    lines += [_inference_row(row, bounds.get((row["backbone"], row["batch"])), peers.get((row["backbone"], row["batch"]))) for row in ordered]
    return [
        *lines,
        "",
        "Options of ONNX Runtime are tried one on top of the other (layout, bias within the convolution, CUDA graph, exhaustive search); every row",
        "of a batch is compared with fp32 on the CPU before and after. PyTorch: default mode, the faster of plain and CUDA graph; no max-autotune.",
        "A row marked stopped had no time left to try CUDA graphs.",
        "Buffers are bound once on the card; 'with copies' brings the uint8 images from the host and the probabilities back (PyTorch's from pinned",
        "memory).",
        "images/s: calls are given one behind the other and only the last is waited for; ms: each call is waited for.",
        f"{_p99_verdict(result)} A row without figures is invalid, not slow.",
    ]


def _inference_row(row: dict[str, Any], bound: dict[str, Any] | None, peer: dict[str, Any] | None) -> str:
    start = f"| {_title(row['backbone'])}, {row.get('image_size_px', '')}, {row['batch']} | {row['engine']} |"
    if "throughput" not in row:
        return f"{start} invalid: {row['invalid'].replace('|', '/')} ||||||||"
    speed, ms, copies = row["throughput"]["per_second"], row["latency"]["ms"], row["latency_from_host"]["ms"]
    share = f"{speed / bound['images_per_second']:.0%}" if bound else ""
    ours = row["engine"] == "onnxruntime"
    ratio = f"{speed / peer['throughput']['per_second']:.2f} (by p50 {peer['latency']['ms']['50'] / ms['50']:.2f})" if peer and ours else ""
    target = _verdict(row["backbone"], speed, peer) if ours and row["batch"] > 1 else ""
    chosen = ", ".join(name if value is True else str(value) for name, value in row["choice"].items() if value is not False)
    unsteady = " (windows differ)" if row.get("unsteady") else ""
    unsteady += " (stopped)" if row.get("stopped") else ""
    return (
        f"{start} {speed:,.0f}{unsteady} | {share} | {ratio} | {target} | {ms['50']:.3f} / {ms['90']:.3f} / {ms['99']:.3f} "
        f"| {copies['50']:.3f} / {copies['99']:.3f} | {row['max_difference']:.1g} | {chosen} |"
    )


def _pays(result: Result | None, cpu: Path) -> list[str]:
    if result is None or not cpu.exists():
        return [f"From how many images a day a GPU costs less than CPU cores: {NOT_YET}."]
    on_cpu = read_measurements(cpu)
    return pays_lines(costs(on_cpu, gpu_measurements(result, on_cpu)))


def _verdict(backbone: str, speed: float, peer: dict[str, Any] | None) -> str:
    wanted = TARGET_RATIO[backbone]
    reached = "" if peer is None else ": reached" if speed >= wanted * peer["throughput"]["per_second"] else ": MISSED"
    return f"≥ {wanted:.2f}{reached}"


def _p99_verdict(result: Result) -> str:
    found = [row for row in result.rows if (row["engine"], row["backbone"], row["batch"]) == ("onnxruntime", "resnet50", 1) and "latency" in row]
    reached = "" if not found else " reached" if found[0]["latency"]["ms"]["99"] <= TARGET_P99_MS else " MISSED"
    return f"ResNet50 at batch 1, p99 ≤ {TARGET_P99_MS} ms:{reached or f' {NOT_YET}'}."


def _training(result: Result | None) -> list[str]:
    if result is None:
        return [f"Keras on JAX against compiled PyTorch: {NOT_YET}."]
    plain = {(row["backbone"], row["engine"], row["batch"]): row["plain"] for row in result.rows if "per_second" in row.get("plain", {})}
    lines = [
        "| backbone | batch | engine | images/s | ÷ torch.compile | compile s | input's share | augmentation's share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        own, peer = (plain.get((row["backbone"], engine, row["batch"])) for engine in (row["engine"], "torch.compile"))
        start = f"| {_title(row['backbone'])} | {row['batch']} | {row['engine']} |"
        if own is None:
            lines.append(f"{start} invalid: {str(row.get('stopped') or row.get('plain', {}).get('invalid')).replace('|', '/')} |||||")
            continue
        shares = " | ".join(f"{row[name]:.1%}" if name in row else "" for name in ("input_share", "augmentation_share"))
        ratio = f"{own['per_second'] / peer['per_second']:.2f}" if peer and row["engine"] != "torch.compile" else ""
        ratio += " (not a fair pair)" if ratio and not (own.get("agree", True) and peer and peer.get("agree", True)) else ""
        unsteady = "" if own.get("agree", True) else f" (windows differ: {min(own['windows'][1:]):,.0f} to {max(own['windows']):,.0f})"
        note = f", {row['note']}" if "note" in row else ""
        lines.append(f"{start} {own['per_second']:,.0f}{unsteady}{note} | {ratio} | {own['compile_s']:.0f} | {shares} |")
    return [
        *lines,
        "",
        f"Targets: ≥ {TARGET_TRAINING} of compiled PyTorch{_judged_pairs(result)}; the input's share below {TARGET_INPUT:.0%}"
        f"{_judged_inputs(result)}. Keras' windows are the study's epochs; the",
        "input's share is at most that of bringing a batch together alone. Where windows differ, others' compilers ran meanwhile (`--hold-s` lets",
        "them end first).",
    ]


def _judged_pairs(result: Result) -> str:
    """Which backbones reach it, of the pairs in which both were steady."""
    speeds = {(row["engine"], row["backbone"]): row["plain"] for row in result.rows if "per_second" in row.get("plain", {})}
    told = []
    for (engine, backbone), own in speeds.items():
        peer = speeds.get(("torch.compile", backbone))
        if engine == "torch.compile" or peer is None:
            continue
        fair = own.get("agree", True) and peer.get("agree", True)
        reached = "reached" if own["per_second"] >= TARGET_TRAINING * peer["per_second"] else "MISSED"
        told.append(f"{_title(backbone)} {reached if fair else 'not told, one of the two was disturbed'}")
    return f" ({', '.join(told)}; the others {NOT_YET})" if told else ""


def _judged_inputs(result: Result) -> str:
    shares = [row["input_share"] for row in result.rows if "input_share" in row]
    return f" ({'reached' if max(shares) < TARGET_INPUT else 'MISSED'}, at most {max(shares):.1%})" if shares else ""


def _depthwise(result: Result | None) -> list[str]:
    if result is None:
        return [f"XLA's grouped convolution against a sum of shifted products: {NOT_YET}."]
    lines = ["| batch, px, channels, stride | grouped, ms | shifted, ms |", "|---|---|---|"]
    for grouped, shifted in zip(result.rows[::2], result.rows[1::2], strict=True):
        lines.append(f"| {', '.join(map(str, grouped['shape']))} | {grouped['ms']:.2f} | {shifted['ms']:.2f} |")
    return [*lines, "", "Forwards and backwards in bf16. The study computes strided ones as shifted products, the others as XLA does."]


def _study(found: dict[str, Result]) -> list[str]:
    results = [found[name] for name in ("study-resident", "study-cellclf") if name in found]
    if not results:
        return [f"Wall time and accuracy of 30 epochs each: {NOT_YET}."]
    lines = []
    for result in results:
        whole, *runs = result.rows
        state = "" if whole["done"] == whole["backbones"] else f", {whole['done']} of {whole['backbones']} backbones done"
        lines += [
            f"Route {whole['route']}: {whole['wall_s']:.0f} s of wall time, PyTorch's turns included{state}; target {TARGET_STUDY_S} s for all.",
            "All compile at once and then train in turns. From a random start the few hidden units behind ReLU can die at once: a run whose",
            "accuracies stand at a label's share calls every image the same. That says nothing of the backbone, whose ImageNet weights were not",
            "at hand, and its speed is the same.",
            "",
            "| backbone | epochs | batch | weights | images/s | data s | compile s | fit s | validation accuracy | official test accuracy |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in runs:
            if row["state"] != "done":
                reason = f"unfinished: {row.get('failure', 'the time was up').replace('|', '/')}"
                lines.append(f"| {_title(row['backbone'])} | {row.get('epochs', 0)} | | {reason} |||||||")
                continue
            recipe = row["recipe"]
            weights = "random start" if recipe["weights"] == "none" else recipe["weights"]
            weights += f", rate {recipe['learning_rate']:g} {recipe['schedule']}"
            lines.append(
                f"| {_title(row['backbone'])} | {row['epochs']} | {recipe['batch_size']} | {weights} "
                f"| {row['images_per_second']:,.0f} | {row['data_s']:.0f} | {row['compile_s']:.0f} | {row['fit_s']:.0f} "
                f"| {_interval(row, 'validation')} | {_interval(row, 'test')} |"
            )
        lines.append("")
    return lines[:-1]


def _interval(row: dict[str, Any], split: str) -> str:
    low, high = row.get(f"{split}_interval") or (None, None)
    value = f"{row[f'{split}_accuracy']:.3f}"
    return value if low is None else f"{value} [{low:.3f}, {high:.3f}]"


def _title(backbone: str) -> str:
    return BACKBONES[backbone].title


if __name__ == "__main__":
    main()
