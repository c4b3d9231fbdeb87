import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellclf.artifact.precisions import PRECISIONS
from cellclf.backbones import BACKBONES
from cellclf.cli.app import VERBS
from cellclf.data.datasets import DATASETS
from cellclf.data.splits import PROTOCOLS
from cellclf.runtime.providers import DEVICES
from cellclf.studies.table import STUDIES
from cellclf.training.augmentation import AUGMENTATIONS
from tests.cli.reading import error_line
from tests.conftest import Completed

FRAMEWORKS = {"tensorflow", "keras", "jax", "tf2onnx", "sklearn", "matplotlib"}
RUNTIME = {"numpy", "onnxruntime", "onnx", "pydantic", "PIL"}
WIDE = {"COLUMNS": "250", "TERMINAL_WIDTH": "250"}

_MODULES_AFTER = """
import json, sys
from cellclf.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def modules_after(*arguments: str | Path, folder: Path, **environment: str) -> set[str]:
    """Top-level modules that are loaded when a command has run in a fresh process, where a warning is an error; asserts that it succeeded."""
    command = [sys.executable, "-W", "error", "-c", _MODULES_AFTER, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code in (0, None), done.stderr
    return set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_no_library_at_all(arguments: list[str], tmp_path: Path) -> None:
    assert not modules_after(*arguments, folder=tmp_path) & (FRAMEWORKS | RUNTIME)


def test_what_all_verbs_share_loads_no_library(tmp_path: Path) -> None:
    """Typer's imports take longer when NumPy is there before them."""
    code = "import sys, cellclf.cli.options; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "PIL", "onnxruntime"}


@pytest.mark.parametrize("verb", ["predict", "verify", "show", "evaluate", "doctor", "data", "tune"])
def test_no_verb_that_works_without_training_loads_a_framework(verb: str, model_file: Path, sample_folder: Path, tmp_path: Path) -> None:
    image = next((sample_folder / "TEST").rglob("*.jpeg"))
    arguments: dict[str, list[str | Path]] = {
        "predict": [image, "--model", model_file],
        "verify": [model_file],
        "show": [model_file],
        "evaluate": [model_file],
        "doctor": [],
        "data": ["show", "sample"],
        "tune": [model_file, "--seconds", "1"],
    }
    kept = {"CELLCLF_CACHE": str(tmp_path)} if verb == "tune" else {}  # its plan would be everybody's
    assert not modules_after(verb, *arguments[verb], folder=tmp_path, **kept) & FRAMEWORKS


@pytest.mark.parametrize("verb", ["train", "export", "demo", "study", "report", "choose"])
def test_help_of_the_training_verbs_loads_no_framework(verb: str, tmp_path: Path) -> None:
    assert not modules_after(verb, "--help", folder=tmp_path) & FRAMEWORKS


def first_line_of(verb: str) -> str:
    """The first line of the docstring of a verb's function, or of its callback where it has verbs of its own."""
    app: Any = importlib.import_module(f"cellclf.cli.{verb}").app
    holder = app.registered_callback or app.registered_commands[0]
    return str(holder.callback.__doc__).splitlines()[0]


def test_every_verb_is_listed_with_the_first_line_of_its_docstring() -> None:
    assert {verb: first_line_of(verb) for verb in VERBS} == VERBS


def test_every_module_of_a_verb_is_listed(cli: Callable[..., Completed]) -> None:
    folder = Path(str(importlib.import_module("cellclf.cli").__file__)).parent
    verbs = {path.stem for path in folder.glob("*.py") if "@app.command(" in path.read_text(encoding="utf-8")}
    assert verbs == set(VERBS)
    printed = cli("--help", **WIDE)
    assert printed.code == 0
    for verb, summary in VERBS.items():
        assert f"{verb} " in printed.out
        assert summary in printed.out


TABLES_IN_HELP = {
    "demo": [],
    "doctor": [],
    "data show": [*DATASETS, *PROTOCOLS],
    "data fetch": [*DATASETS],
    "data audit": [*DATASETS],
    "train": [*BACKBONES, *DATASETS, *PROTOCOLS, *AUGMENTATIONS],
    "export": [*PRECISIONS],
    "tune": [],
    "verify": [*DEVICES],
    "show": [],
    "predict": [*DEVICES],
    "serve": [*DEVICES],
    "evaluate": [*DEVICES, *PROTOCOLS],
    "study list": [],
    "study show": [*STUDIES],
    "study run": [*STUDIES, *PROTOCOLS],
    "study status": [*STUDIES],
    "study report": [*STUDIES],
    "report": [],
    "choose": [],
}


def test_every_verbs_help_is_tested() -> None:
    assert {command.partition(" ")[0] for command in TABLES_IN_HELP} == set(VERBS)


@pytest.mark.parametrize("command", TABLES_IN_HELP)
def test_help_names_every_row_of_the_tables_a_verb_chooses_from(cli: Callable[..., Completed], command: str) -> None:
    printed = cli(*command.split(), "--help", **WIDE)
    assert printed.code == 0
    assert f"Usage: cellclf {command}" in printed.out
    words = set(printed.out.replace(",", " ").replace(";", " ").replace(".", " ").split())
    assert not set(TABLES_IN_HELP[command]) - words


def test_a_verbs_own_help_begins_with_its_summary(cli: Callable[..., Completed]) -> None:
    assert VERBS["data"] in cli("data", "--help", **WIDE).out
    assert VERBS["predict"] in cli("predict", "--help", **WIDE).out


def test_a_misspelt_verb_is_one_line_and_none_is_the_help(cli: Callable[..., Completed]) -> None:
    assert error_line(cli("trian"), code=2) == "cellclf: no such command 'trian'; see cellclf --help"
    for command in ([], ["data"]):
        done = cli(*command, **WIDE)
        assert done.code == 2
        assert "Usage: " in done.out + done.err


def test_the_version_is_the_packages(cli: Callable[..., Completed]) -> None:
    from cellclf import __version__

    assert cli("--version") == Completed(0, f"cellclf {__version__}\n", "")
