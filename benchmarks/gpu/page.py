"""JSON of the GPU scripts → docs/results/gpu.md; no figure is typed. Where a script has not run on a GPU, the page says so.

Reads docs/results/gpu/*.json, where the JSON that came back from the machine is put: KIND.json, and KIND-WORD.json of other sittings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.measurements import as_benchmark_json, costs, gpu_measurements, pays_lines
from benchmarks.gpu.record import STUDY_BACKBONES, Result
from cellclf.backbones import BACKBONES
from cellclf.studies.measurements import read_measurements

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
NOT_YET = "not yet measured on a GPU"
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
TARGET_TRAINING, TARGET_INPUT, TARGET_STUDY_S, TARGET_P99_MS = 0.8, 0.02, 600, 0.6


def main() -> None:
    """Write the page, and gpu.json for `cellclf report` and `choose`."""
    (RESULTS / "gpu.md").write_text(page(RESULTS / "gpu"), encoding="utf-8")
    if measured := sittings("inference", measured_on_a_gpu(RESULTS / "gpu")):
        found = gpu_measurements(measured, read_measurements(RESULTS / "cpu.json"))
        (RESULTS / "gpu.json").write_text(as_benchmark_json(found), encoding="utf-8")


def measured_on_a_gpu(folder: Path) -> dict[str, Result]:
    """What was measured on a GPU, by file name."""
    found = {path.stem: Result.read(path) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)}
    return {name: result for name, result in found.items() if not result.check and result.machine.gpu}


def sittings(kind: str, found: dict[str, Result]) -> dict[str, Result]:
    """The sittings of a kind, by file name."""
    return {name: result for name, result in found.items() if name == kind or name.startswith(f"{kind}-")}


def page(folder: Path) -> str:
    """The whole page from the JSON files in a folder, which need not exist."""
    found = measured_on_a_gpu(folder)
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
    lines += ["", "## Inference, fp16", "", *_inference(sittings("inference", found), found.get("ceilings"))]
    lines += ["", "## cellclf's own commands", "", *_product(found.get("product"))]
    lines += ["", "## When a GPU pays", "", *_pays(sittings("inference", found), folder.parent / "cpu.json")]
    lines += ["", "## Training speed, bf16", "", *_training(sittings("training", found))]
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


def _inference(results: dict[str, Result], ceilings: Result | None) -> list[str]:
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
        "PyTorch of the same sitting; the table at the top takes the best sitting.",
        "Options of ONNX Runtime are tried one on top of the other (layout, bias within the convolution, CUDA graph, exhaustive search); every row",
        "of a batch is compared with fp32 on the CPU before and after. PyTorch: default mode, the faster of plain and CUDA graph; no max-autotune.",
        "A row marked stopped had no time left to try CUDA graphs. XLA's ways are compiled beside the other processes, then timed in turns.",
        "Buffers are bound once on the card; 'with copies' brings the uint8 images from the host and the probabilities back (PyTorch's from pinned",
        "memory).",
        "images/s: calls are given one behind the other and only the last is waited for; ms: each call is waited for.",
        f"{_p99_verdict(results)} A row without figures is invalid, not slow.",
    ]


def _inference_row(row: dict[str, Any], bound: dict[str, Any] | None, peer: dict[str, Any] | None) -> str:
    start = f"| {_title(row['backbone'])}, {row.get('image_size_px', '')}, {row['batch']} | {row['engine']} |"
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
                f"| {_title(backbone)} | {engine} | {_mean(ratios):.2f} | {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
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


def _product(result: Result | None) -> list[str]:
    """What `cellclf verify` and `predict` do on each provider, as a user starts them."""
    tensorrt = f"`--device tensorrt`: {NOT_YET}; TensorRT's libraries are not on PyPI, so that no machine that was at hand had them."
    if result is None:
        return [f"`cellclf verify` and `cellclf predict` with `--device cuda` and `xla` (benchmarks/gpu/product.py): {NOT_YET}.", tensorrt]
    lines = [
        "| --device | provider | golden cases: largest difference | predict, s | images | largest difference from the CPU's answers |",
        "|---" * 6 + "|",
    ]
    for row in result.rows:
        if "invalid" in row:
            lines.append(f"| {row['device']} | invalid: {row['invalid'].replace('|', '/')} |||||")
            continue
        lines.append(
            f"| {row['device']} | {row['provider']} | {row['verified']['max_difference']:.1g} | {row['predict_s']:.1f} | {row['images']} "
            f"| {row['max_difference']:.1g} |"
        )
    return [*lines, "", tensorrt]


def _many(row: dict[str, Any], backbone: str) -> bool:
    return row["backbone"] == backbone and row["batch"] > 1 and "throughput" in row


def _pays(results: dict[str, Result], cpu: Path) -> list[str]:
    if not results or not cpu.exists():
        return [f"From how many images a day a GPU costs less than CPU cores: {NOT_YET}."]
    on_cpu = read_measurements(cpu)
    return pays_lines(costs(on_cpu, gpu_measurements(results, on_cpu)))


def _verdict(backbone: str, speed: float, peer: dict[str, Any] | None) -> str:
    wanted = TARGET_RATIO[backbone]
    reached = "" if peer is None else ": reached" if speed >= wanted * peer["throughput"]["per_second"] else ": MISSED"
    return f"≥ {wanted:.2f}{reached}"


def _p99_verdict(results: dict[str, Result]) -> str:
    rows = [row for result in results.values() for row in result.rows if row["engine"] in OURS and "latency" in row]
    found = [row["latency"]["ms"]["99"] for row in rows if (row["backbone"], row["batch"]) == ("resnet50", 1)]
    reached = "" if not found else " reached" if min(found) <= TARGET_P99_MS else " MISSED"
    return f"ResNet50 at batch 1, p99 ≤ {TARGET_P99_MS} ms:{reached or f' {NOT_YET}'}."


def _training(results: dict[str, Result]) -> list[str]:
    if not results:
        return [f"Keras on JAX against compiled PyTorch: {NOT_YET}."]
    rows = [row for result in results.values() for row in result.rows]
    lines = [line for name, result in results.items() for line in (f"{name}:", "", *_training_table(result), "")]
    return [
        *lines,
        f"Targets: ≥ {TARGET_TRAINING} of compiled PyTorch{_judged_pairs(results)}; the input's share below {TARGET_INPUT:.0%}"
        f"{_judged_inputs(rows)}.",
        "Keras' windows are the study's epochs, its speed their median; the input's share is at most that of bringing a batch together alone.",
        "Where windows differ, others' compilers ran meanwhile (`--hold-s` lets them end first); a target is then called reached only if it is so",
        "against PyTorch's fastest window.",
    ]


def _training_table(result: Result) -> list[str]:
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
    return lines


def _judged_pairs(results: dict[str, Result]) -> str:
    """What is reached by backbone, each against the peer of its own sitting; against its fastest window where one of the two was disturbed."""
    judged: dict[str, str] = {}
    for result in results.values():
        speeds = {(row["engine"], row["backbone"]): row["plain"] for row in result.rows if "per_second" in row.get("plain", {})}
        for (engine, backbone), own in speeds.items():
            peer = speeds.get(("torch.compile", backbone))
            if engine == "torch.compile" or peer is None:
                continue
            fair = own.get("agree", True) and peer.get("agree", True)
            against = peer["per_second"] if fair else max(peer["windows"])
            reached = own["per_second"] >= TARGET_TRAINING * against
            verdict = "reached" if reached else "MISSED" if fair else "not told, one of the two was disturbed"
            if judged.get(backbone) != "reached":
                judged[backbone] = verdict
    told = ", ".join(f"{_title(backbone)} {verdict}" for backbone, verdict in judged.items())
    return f" ({told}; the others {NOT_YET})" if told else ""


def _judged_inputs(rows: list[dict[str, Any]]) -> str:
    shares = [row["input_share"] for row in rows if "input_share" in row]
    return f" ({'reached' if max(shares) < TARGET_INPUT else 'MISSED'}, at most {max(shares):.1%})" if shares else ""


def _depthwise(result: Result | None) -> list[str]:
    if result is None:
        return [f"XLA's grouped convolution against a sum of shifted products: {NOT_YET}."]
    lines = ["| batch, px, channels, stride | grouped, ms | shifted, ms |", "|---|---|---|"]
    for grouped, shifted in zip(result.rows[::2], result.rows[1::2], strict=True):
        lines.append(f"| {', '.join(map(str, grouped['shape']))} | {grouped['ms']:.2f} | {shifted['ms']:.2f} |")
    return [*lines, "", "Forwards and backwards in bf16. The study computes strided ones as shifted products, the others as XLA does."]


def _study(found: dict[str, Result]) -> list[str]:
    results = sittings("study", found)
    if not results:
        return [f"Wall time and accuracy of 30 epochs each: {NOT_YET}."]
    lines = [
        "All compile at once and then train in turns. From a random start the few hidden units behind ReLU can die at once: a run whose",
        "accuracies stand at a label's share calls every image the same. That says nothing of the backbone, whose ImageNet weights were not",
        f"at hand, and its speed is the same. {_whole_study(results)}",
        "",
    ]
    for name, result in results.items():
        whole, *runs = result.rows
        state = "" if whole["done"] == whole["backbones"] else f", {whole['done']} of {whole['backbones']} backbones done"
        lines += [
            f"{name}, route {whole['route']}: {whole['wall_s']:.0f} s of wall time, PyTorch's turns included{state}; "
            f"target {TARGET_STUDY_S} s for all.",
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


def _whole_study(results: dict[str, Result]) -> str:
    """Whether one sitting ran all of it in the time."""
    wholes = [result.rows[0] for result in results.values()]
    done = {row["backbone"] for result in results.values() for row in result.rows[1:] if row["state"] == "done"}
    if times := [whole["wall_s"] for whole in wholes if whole["done"] == whole["backbones"]]:
        return f"All in one sitting, {min(times):.0f} s: {'reached' if min(times) <= TARGET_STUDY_S else 'MISSED'}."
    return f"{len(done)} of {wholes[0]['backbones']} backbones have run; no sitting was long enough for all, so the time for all is {NOT_YET}."


def _interval(row: dict[str, Any], split: str) -> str:
    low, high = row.get(f"{split}_interval") or (None, None)
    value = f"{row[f'{split}_accuracy']:.3f}"
    return value if low is None else f"{value} [{low:.3f}, {high:.3f}]"


def _title(backbone: str) -> str:
    return BACKBONES[backbone].title


if __name__ == "__main__":
    main()
