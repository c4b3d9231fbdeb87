"""The best recipes found for two cores, trained, exported with their operating points and measured: docs/results/best.json and best.md.

    CELLCLF_DATA=… CELLCLF_WEIGHTS=… python benchmarks/best_results.py [--only blood chest]

A run that an earlier call left in runs/ is used again; remove it to train anew.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellclf.environment import Environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
WORK = ROOT / "runs"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Best:
    """How one data set's best run is made. evaluate: which images its files are measured on, '' = the run's own test set. target: metric, at
    least here, at least with a GPU.

    peers: published figures on the same official test set, as they were published, with who says so."""

    title: str
    train: str
    export: str
    evaluate: str
    target: tuple[str, float, float]
    peers: tuple[tuple[str, str], ...]


BLOOD_PEERS = (
    ("ResNet-18, full fine-tune, 3 seeds", "accuracy .860 ± .004"),
    ("VGG-11+BN, 64 px", "accuracy .851"),
    ("MobileNetV2", "accuracy .81"),
)


def _blood(title: str, train: str, evaluate: str = "") -> Best:
    """A recipe for blood cells under official."""
    return Best(title, train, "--calibrate", evaluate, ("balanced accuracy", 0.88, 0.90), BLOOD_PEERS)


CELL = (
    "--backbone mobilenetv2 --weights $CELLCLF_WEIGHTS/mobilenet_v2_1.0_224_imagenet_notop.weights.h5 --image-size 192 --crop cell"
    " --batch-size 32 --hidden none --learning-rate 3e-4 --schedule cosine --patience 0 --dropout 0.4 --data blood-cells --protocol official"
    " --fractions 0.72,0.08,0.2 --epochs 5 --logit-adjustment groups --augment cells-stain"
)

BEST = {
    "blood": _blood(
        title="Blood cells, official TEST: MobileNetV2",
        train="--backbone mobilenetv2 --weights $CELLCLF_WEIGHTS/mobilenet_v2_1.0_224_imagenet_notop.weights.h5 --image-size 192 --batch-size 32"
        " --hidden none --learning-rate 3e-4 --schedule cosine --patience 0 --dropout 0.4 --data blood-cells --protocol official"
        " --images-fraction 0.4 --fractions 0.72,0.08,0.2 --epochs 8 --logit-adjustment groups --augment cells-stain",
        evaluate="--data blood-cells --protocol official",
    ),
    "blood-large": _blood(
        title="Blood cells, official TEST: MobileNetV2 at 224 px on all images",
        train="--backbone mobilenetv2 --weights $CELLCLF_WEIGHTS/mobilenet_v2_1.0_224_imagenet_notop.weights.h5 --image-size 224 --batch-size 32"
        " --hidden none --learning-rate 3e-4 --schedule cosine --patience 0 --dropout 0.4 --data blood-cells --protocol official"
        " --fractions 0.72,0.08,0.2 --epochs 5 --logit-adjustment groups --augment cells-stain",
    ),
    "blood-cell": _blood(
        title="Blood cells, official TEST: MobileNetV2 that sees the cell",
        train=CELL,
    ),
    "blood-cell-1": _blood(
        title="Blood cells, official TEST: the same with another seed and another division of the training originals",
        train=f"{CELL} --seed 1 --split-seed 1",
    ),
    "blood-small": _blood(
        title="Blood cells, official TEST: MobileNet 0.25, the file in exported/",
        train="--backbone mobilenet025 --image-size 192 --batch-size 32 --learning-rate 2e-3 --schedule cosine --patience 0 --dropout 0.2"
        " --data blood-cells --protocol official --epochs 6 --logit-adjustment groups --augment cells-stain",
    ),
    "chest": Best(
        title="Chest X-rays, official test",
        train="--backbone mobilenet025 --image-size 224 --batch-size 32 --learning-rate 2e-3 --schedule cosine --patience 0 --dropout 0.2"
        " --data chest-xray --protocol official --epochs 8 --class-weight balanced --augment xray-strong",
        export="--min-sensitivity .95 --positive PNEUMONIA",
        evaluate="",
        target=("AUC", 0.97, 0.98),
        peers=(
            ("Kermany et al. 2018, InceptionV3", "accuracy .928, sensitivity .932, specificity .901, AUC .968"),
            ("MedMNIST, ResNet-50 at 224 px", "accuracy .884, AUC .962"),
            ("MedMNIST, Google AutoML Vision", "accuracy .946, AUC .991"),
            ("DenseNet121 with class weights and a chosen threshold", "accuracy .896, AUC .974"),
        ),
    ),
}


def cellclf(arguments: str) -> str:
    """Run one command of the project and return what it printed on stdout; its progress goes to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "cellclf", *os.path.expandvars(arguments).split()], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def measured(name: str, best: Best) -> dict[str, Any]:
    """Train (or take the run that is there), export, evaluate the file on the official test set."""
    run = f"best-{name}"
    train = f"train {best.train} --name {run} --json"
    there = (WORK / run / "recipe.json").exists()
    metrics = json.loads(cellclf(f"train --resume {run} --json" if there else train))
    export = f"export {run} {best.export} --precision {{}} --output runs/{run}/{run}-{{}}.onnx --json"
    evaluate = f"evaluate runs/{run}/{run}-{{}}.onnx {best.evaluate} --json"
    files, cards = {}, {}
    for precision in PRECISIONS:
        cards[precision] = json.loads(cellclf(export.format(precision, precision)))[0]
        files[precision] = json.loads(cellclf(evaluate.format(precision)))["metrics"]
    card = cards["fp32"]["card"]
    setup = json.loads((WORK / run / "recipe.json").read_text())
    return {
        "commands": [f"cellclf {command}" for command in (train, export.format("fp32", "fp32"), evaluate.format("fp32"))],
        "environment": Environment.of_this_machine(keras_backend="tensorflow", provider="CPUExecutionProvider").model_dump(mode="json"),
        "run": metrics,
        "leaks": setup["data"]["leaks"],
        "notes": setup["data"]["notes"],
        "operating_point": card.get("operating_point"),
        "temperature": card.get("temperature"),
        "file": files["fp32"],
        "precisions": {
            precision: {
                "size_bytes": cards[precision]["size_bytes"],
                "parity": cards[precision]["card"]["parity"],
                "benefit": cards[precision]["card"]["benefit"],
                "accuracy": files[precision]["accuracy"],
                "balanced_accuracy": files[precision]["balanced_accuracy"],
            }
            for precision in PRECISIONS
        },
    }


def estimate(value: dict[str, Any] | None) -> str:
    """A figure with its interval."""
    if value is None:
        return ""
    return f"{value['value']:.4f}" if value["low"] is None else f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def page(results: dict[str, Any]) -> str:
    """The Markdown page; our figures come from the JSON, the peers' from the table above."""
    lines = [
        "# The best recipes for two cores",
        "",
        "Written by `make results-best` (benchmarks/best_results.py) from best.json; none of our figures is typed. One run each.",
        "The logit adjustment was tried because an earlier model called monocytes of the official test set neutrophils; beyond that, what was tried",
        "was settled before its test figures were seen: 128 px before 192 px, then a larger backbone; X-rays at 192 px before 224 px. MobileNetV2's",
        "size, linear head, rate and dropout were taken for their validation figure, and then trained on nine tenths of the training originals in",
        "the place of eight, whatever the test set would say; then at the size of its ImageNet weights, 224 px, on all images, likewise; then with",
        "the crop that spine.md's divisions chose for a smaller network, at 192 px. The test set holds four monocytes, each in some 155 copies: one",
        "that is called something else costs six points of balanced accuracy. The recipe that sees the cell was run a second time, with another",
        "seed and another tenth of the originals held apart, to see how far one run's figure may be trusted.",
        "Intervals: 95 %, over originals or patients. Peers' figures are as published, on the same official test sets. A run on a part of the images",
        "(--images-fraction) has a part of the test set, too; beside a peer's figure stands the exported file's, of all test images.",
        "",
    ]
    repeated = [results[name]["file"]["balanced_accuracy"]["value"] for name in ("blood-cell", "blood-cell-1") if name in results]
    if repeated:
        told = " and ".join(f"{value:.4f}" for value in repeated)
        lines += [f"Balanced accuracy on test of the recipe that sees the cell, run by run: {told}; mean {sum(repeated) / len(repeated):.4f}.", ""]
    for name in (name for name in BEST if name in results):
        lines += section(BEST[name], results[name])
    return "\n".join(lines) + "\n"


def section(best: Best, found: dict[str, Any]) -> list[str]:
    """One data set's part."""
    validation, test, file = found["run"]["validation"], found["run"]["test"], found["file"]
    lines = [f"## {best.title}", "", "```", *found["commands"], "```", ""]
    lines += [f"- **{leak['split']} LEAKS**: {leak['reason']}" for leak in found["leaks"]] + [f"- {note}" for note in found["notes"]] + [""]
    heads = (
        f"validation, {validation['images']:,} images",
        f"the run's test set, {test['images']:,} images",
        f"exported file, {file['images']:,} test images",
    )
    lines += [f"| | {' | '.join(heads)} |", "|---|---|---|---|"]
    for key, title in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("auc", "AUC"),
        ("average_precision", "average precision"),
    ):
        lines.append(f"| {title} | {estimate(validation[key])} | {estimate(test[key])} | {estimate(file[key])} |")
    for key, title in (("loss", "loss"), ("brier", "Brier score"), ("ece", "calibration error (ECE)")):
        lines.append(f"| {title} | {validation[key]:.4f} | {test[key]:.4f} | {file[key]:.4f} |")
    lines += [
        "",
        _judged(best, file),
        "",
        "| label, exported file on test | images | sensitivity | specificity | precision |",
        "|---|---|---|---|---|",
    ]
    for label, figures in file["per_label"].items():
        rates = (estimate(figures[rate]) for rate in ("recall", "specificity", "precision"))
        lines.append(f"| {label} | {figures['images']} | {' | '.join(rates)} |")
    lines.append("")
    point = found["operating_point"]
    if point is not None:
        chosen = file["per_label"][point["positive"]]
        there = f"sensitivity {estimate(point['sensitivity'])}, specificity {estimate(point['specificity'])}"
        here = f"sensitivity {estimate(chosen['recall'])}, specificity {estimate(chosen['specificity'])}"
        lines += [
            f"Threshold {point['threshold']:.4f} for {point['positive']}, chosen on validation for a sensitivity of {point['min_sensitivity']:g} "
            f"(there: {there}). The exported file on test: accuracy {estimate(file['accuracy'])}, {here}.",
            "",
        ]
    if found["temperature"] is not None:
        lines += [f"Temperature fitted on validation: {json.dumps(found['temperature'])}. The exported file on test: ECE {file['ece']:.4f}.", ""]
    lines += ["| file | MB | accuracy | balanced accuracy | labels flipped on validation images | speed beside fp32 |", "|---|---|---|---|---|---|"]
    for precision, row in found["precisions"].items():
        flipped, gain = f"{row['parity']['flipped']} of {row['parity']['images']}", row["benefit"]
        lines.append(
            f"| {precision} | {row['size_bytes'] / 1e6:.2f} | {row['accuracy']['value']:.4f} | {row['balanced_accuracy']['value']:.4f} | {flipped} "
            f"| {'' if gain is None else format(gain['ratio'], '.2f')} |"
        )
    lines.append("")
    lines += ["| peer, official test set | as published |", "|---|---|", *(f"| {who} | {what} |" for who, what in best.peers), ""]
    time, machine = found["run"]["learning_time"], found["environment"]
    seconds = sum(time[part] for part in ("data_s", "compile_s", "fit_s"))
    lines += [f"Learning time {seconds:.0f} s on {machine['cores']} cores of {machine['cpu']}; commit {machine['git_commit']}.", ""]
    return lines


def _judged(best: Best, file: dict[str, Any]) -> str:
    """The target, and whether the exported file reaches it."""
    metric, here, with_gpu = best.target
    value = file[metric.lower().replace(" ", "_")]["value"]
    return (
        f"Target on test: {metric} ≥ {here:g} here: {'reached' if value >= here else 'MISSED'} ({value:.4f}); "
        f"≥ {with_gpu:g} with a GPU: {'reached' if value >= with_gpu else 'not reached'} without one."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=BEST, default=list(BEST))
    parser.add_argument("--pages", action="store_true", help="run nothing: write best.md anew from best.json")
    arguments = parser.parse_args()
    parts = [] if arguments.pages else arguments.only
    os.environ.setdefault("CELLCLF_CACHE", str(ROOT / ".cache"))
    target = RESULTS / "best.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
    for part in parts:
        results[part] = measured(part, BEST[part])
        target.write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "best.md").write_text(page(results))


if __name__ == "__main__":
    main()
