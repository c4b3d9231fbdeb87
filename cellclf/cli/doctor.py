"""`cellclf doctor`."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import typer

from cellclf.backbones import BACKBONES
from cellclf.cli import options
from cellclf.cli.console import out, print_json
from cellclf.data.cache import images_folder
from cellclf.data.datasets import DATASETS, find, places
from cellclf.environment import Environment
from cellclf.runtime.classifier import EXPORTED
from cellclf.runtime.probe import probe_providers
from cellclf.runtime.providers import cuda_generation, gpu_count
from cellclf.training import weights

app = typer.Typer(pretty_exceptions_enable=False)

_EXTRAS = {
    "train": ("keras", "tensorflow", "tf2onnx", "onnx", "h5py", "matplotlib", "kagglehub", "sklearn", "scipy", "jinja2"),
    "jax": ("jax",),
    "serve": ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart"),
    "openvino": ("openvino",),
    "xla": ("jax", "onnx"),
    "bench": ("pytest", "pytest_benchmark", "psutil"),
}


@app.command("doctor")
def doctor(as_json: options.JsonOption = False) -> None:
    """Tell what works on this machine and what is missing.

    Says for each missing thing how to install it or where it was looked for.
    """
    found = _examine()
    if as_json:
        print_json(json.dumps(found, indent=2))
        return
    for title, lines in _sections(found).items():
        out.print(title, style="bold")
        for line in lines:
            out.print("  " + line)


def _examine() -> dict[str, Any]:
    return {
        "environment": Environment.of_this_machine().model_dump(mode="json"),
        "keras_backend": os.environ.get("KERAS_BACKEND") or "tensorflow",
        "gpus_of_the_driver": gpu_count(),
        "onnxruntime_cuda": cuda_generation(),
        "providers": [vars(state) for state in probe_providers()],
        "extras": {extra: [name for name in names if importlib.util.find_spec(name) is None] for extra, names in _EXTRAS.items()},
        "datasets": {row.name: _looked(find(row), places(row)) for row in DATASETS.values()},
        "weights": {row.name: _looked(_first_file(weights.places(row)), weights.places(row)) for row in BACKBONES.values()},
        "cache": str(images_folder()),
        "models": [str(path) for path in sorted(EXPORTED.glob("*.onnx"))],
    }


def _sections(found: dict[str, Any]) -> dict[str, list[str]]:
    machine = found["environment"]
    gpu_names = ", ".join(machine["gpus"]) or "none"
    providers = []
    for state in found["providers"]:
        providers.append(f"{state['name']}: works" if state["works"] else state["reason"])
        if found["gpus_of_the_driver"]:  # without a GPU nobody misses its libraries
            providers += [f"    {name}: {'found' if there else 'missing'}" for name, there in state["libraries"].items()]
    return {
        "machine": [
            f"Python {machine['python']}, {machine['platform']}",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
            f"GPU: {gpu_names}",
        ],
        "versions": [f"{name} {version}" for name, version in machine["packages"].items()],
        f"execution providers (this onnxruntime: {'CUDA ' + found['onnxruntime_cuda'] if found['onnxruntime_cuda'] else 'CPU build'})": providers,
        "extras": [
            f"{extra}: {'complete' if not missing else 'missing ' + ', '.join(missing) + f'''; pip install 'cellclf[{extra}]' '''.rstrip()}"
            for extra, missing in found["extras"].items()
        ],
        "data sets ($CELLCLF_DATA, then kagglehub's cache)": [
            f"{name}: {entry['found'] or 'not here; looked in ' + (', '.join(entry['looked_in']) or 'no place: CELLCLF_DATA is not set')}"
            for name, entry in found["datasets"].items()
        ],
        "ImageNet weights ($CELLCLF_WEIGHTS, then Keras' cache, then downloaded)": [
            f"{name}: {entry['found'] or 'not here; looked for ' + ', '.join(entry['looked_in'])}" for name, entry in found["weights"].items()
        ],
        "decoded images ($CELLCLF_CACHE)": [found["cache"]],
        "models in exported/": found["models"] or ["none"],
    }


def _looked(found: Path | None, looked_in: list[Path]) -> dict[str, Any]:
    return {"found": str(found) if found else None, "looked_in": [str(path) for path in looked_in]}


def _first_file(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
