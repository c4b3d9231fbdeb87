"""The product itself on the GPU, as a user starts it: `cellclf verify` and `predict` of the shipped file on each provider, beside the CPU's answers.

Says that the way from the command line to the card works and gives the same numbers; the speed of it stands in inference.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.gpu.record import arguments, save, say
from cellclf.artifact.golden import golden_image

MODEL = Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx"
DEVICES = ("cpu", "cuda", "xla")
IMAGES, SIZE_PX = 100, 240
"""More than the largest default batch, so that a second, smaller one is padded."""


def command(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and the last line of standard error of one command of the project."""
    done = subprocess.run([sys.executable, "-m", "cellclf", *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


def measure(device: str, folder: Path) -> dict[str, Any]:
    """One provider's row: its answers by image, or what it said instead."""
    row: dict[str, Any] = {"device": device}
    code, out, said = command("verify", MODEL, "--device", device, "--json")
    if code:
        return row | {"invalid": f"verify: exit code {code}: {said}"}
    row["verified"] = {name: value for name, value in json.loads(out).items() if name != "path"}
    started = time.perf_counter()
    code, out, said = command("predict", folder, "--model", MODEL, "--device", device, "--ndjson")
    row["predict_s"] = time.perf_counter() - started
    records = [json.loads(line) for line in out.splitlines()]
    if code or len(records) != IMAGES:
        return row | {"invalid": f"predict: exit code {code}, {len(records)} of {IMAGES} records: {said}"}
    answers = {Path(record["path"]).name: list(record["probabilities"].values()) for record in records}
    return row | {"provider": records[0]["provider"], "answers": answers}


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its largest difference from the first, the CPU's, in the place of its answers."""
    truth = rows[0].get("answers", {})
    found = []
    for row in rows:
        answers = row.pop("answers", None)
        pairs = [(left, right) for name in truth for left, right in zip(truth[name], (answers or {}).get(name, []), strict=False)]
        found.append(row | ({"images": len(answers), "max_difference": max(abs(a - b) for a, b in pairs)} if answers and pairs else {}))
    return found


def main() -> None:
    """Write product.json; the exit code is 1 where a provider gave no answers."""
    parser = arguments(__doc__ or "")
    options: argparse.Namespace = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(IMAGES):
            Image.fromarray(golden_image(seed, height_px=SIZE_PX, width_px=SIZE_PX)).save(Path(temporary) / f"{seed:03}.png")
        rows = compared([measure(device, Path(temporary)) for device in (DEVICES[:1] * 2 if options.check else DEVICES)])
    save("product", rows, options)
    for row in rows:
        say(json.dumps(row))
    sys.exit(int(any("invalid" in row for row in rows)))


if __name__ == "__main__":
    main()
