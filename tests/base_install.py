"""Prove that a base install (no extras, no TensorFlow at all) verifies and predicts. Run as: python tests/base_install.py ENVIRONMENT/bin"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "exported" / "blood-cells-mobilenet025.onnx"
ABSENT = ("tensorflow", "keras", "jax", "tf2onnx", "onnx", "matplotlib", "sklearn")


def main(binaries: Path) -> None:
    """Check what is absent, then verify, show and predict with the installed command, away from the checkout."""
    found = run(binaries / "python", "-c", f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])")
    assert found.strip() == "[]", f"a base install must not have {found}"
    print(run(binaries / "cellclf", "verify", MODEL).strip())
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "cell.png"
        Image.new("RGB", (320, 240), (200, 150, 180)).save(image)
        heat_map = Path(folder) / "seen.png"
        record = json.loads(run(binaries / "cellclf", "predict", image, "--model", MODEL, "--explain", heat_map, "--json"))[0]
        with Image.open(heat_map) as drawn:
            assert drawn.getextrema() != ((200, 200), (150, 150), (180, 180)), "a heat map differs from the image below it"
    assert abs(sum(record["probabilities"].values()) - 1) < 1e-5, record
    refused = subprocess.run([binaries / "cellclf", "train", "--data", "sample", "--weights", "none"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1, refused
    assert "pip install 'cellclf[train]'" in refused.stderr, refused.stderr
    print(
        f"base install: predicts and explains {record['label']} on {record['provider']}, without {', '.join(ABSENT)}; train names the missing extra"
    )


def run(*command: str | Path) -> str:
    """Run in a folder outside the checkout and return stdout."""
    return subprocess.run(
        [str(Path(command[0]).absolute()), *map(str, command[1:])], cwd=tempfile.gettempdir(), text=True, capture_output=True, check=True
    ).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
