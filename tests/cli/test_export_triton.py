"""`cellclf export --format triton`."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from cellclf.artifact.formats import FORMATS
from cellclf.card import read_model_file
from cellclf.cli.export import app
from cellclf.errors import CellclfError
from cellclf.training.run import Run
from tests.conftest import Completed

Cli = Callable[..., Completed]
FRAMEWORKS = {"tensorflow", "keras", "jax", "tf2onnx", "onnx", "google", "tritonclient"}

_WATCHED = """
import json, sys
from cellclf.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def test_the_newest_run_becomes_a_model_named_after_it(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    done = cli("export", "--format", "triton", "models", "--runs", finished_run.folder.parent)
    assert done.code == 0, done.err
    model = Path("models") / finished_run.name
    file = read_model_file(tmp_path / model / "1" / "model.onnx")
    assert done.out == f"{model / '1'}  model {finished_run.name}, version 1  fp32  sha256 {file.fingerprint}\n"
    assert file.card.name == finished_run.name
    assert {path.name for path in (tmp_path / model).iterdir()} == {"1", "config.pbtxt", "labels.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {"models"}, "nothing is left where predict would find it"


def test_an_exported_file_needs_no_framework_and_is_not_changed(model_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _WATCHED, "export", str(model_file), "models", "--format", "triton"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert not set(modules) & FRAMEWORKS
    assert (tmp_path / "models" / model_file.stem / "1" / "model.onnx").read_bytes() == model_file.read_bytes()


def test_versions_are_counted_and_told_as_json(cli: Cli, model_file: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        done = cli("export", model_file, "models", "--format", "triton", "--name", "cells", "--max-batch", "8", "--instance-kind", "cpu", "--json")
        assert done.code == 0, done.err
        (record,) = json.loads(done.out)
        assert (record["path"], record["version"]) == (f"models/cells/{version}", version)
        assert record["card"] == json.loads(read_model_file(model_file).card.model_dump_json())
    config = (tmp_path / "models" / "cells" / "config.pbtxt").read_text()
    assert "max_batch_size: 8\n" in config
    assert "kind: KIND_CPU count: 1" in config


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--format", "tritom", "models"], "did you mean triton"),
        (["--format", "triton"], "cellclf export --format triton DIR"),
        (["--format", "triton", "FILE"], "name one behind it"),
        (["--format", "triton", "RUN"], "name one behind it"),
        (["--format", "triton", "FILE", "models", "--output", "m.onnx"], "not to --output"),
        (["--format", "triton", "FILE", "models", "--precision", "int8"], "need a run"),
        (["--format", "triton", "FILE", "models", "--calibrate"], "need a run"),
        (["--format", "triton", "FILE", "models", "--name", "a/b"], "cannot name a model"),
        (["--format", "triton", "FILE", "models", "--instance-kind", "tpu"], "auto, cpu, gpu"),
        (["--format", "triton", "missing.onnx", "models"], "missing.onnx"),
        (["--format", "triton", "RUN", "models", "--precision", "all", "--name", "a"], "one --precision"),
        (["--format", "triton", "models"], "cellclf train"),
        (["RUN", "models"], "DIR"),
        (["RUN", "--max-batch", "8"], "another --format"),
    ],
)
def test_a_wrong_choice_is_an_error_that_writes_nothing(
    model_file: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"FILE": model_file, "RUN": finished_run.folder}
    with pytest.raises(CellclfError, match=re.escape(named)):
        typer.main.get_command(app)([str(paths.get(word, word)) for word in arguments], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_help_names_every_format(cli: Cli) -> None:
    words = set(cli("export", "--help", COLUMNS="250", TERMINAL_WIDTH="250").out.replace(",", " ").split())
    assert set(FORMATS) <= words
