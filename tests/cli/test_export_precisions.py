"""Several precisions in one call: one that is refused keeps none of the others from being written."""

import os
from pathlib import Path
from typing import Any

import pytest

import cellclf.artifact.export
from cellclf.artifact.decisions import Wishes
from cellclf.cli.export import _write_files
from cellclf.errors import ParityError
from cellclf.runtime.classifier import newest_model
from cellclf.training.run import Run


def test_a_refused_precision_is_told_after_the_others_are_written_and_fp32_is_the_newest(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = cellclf.artifact.export.export

    def export(run: Run, target: Path, **options: Any) -> object:
        if options["precision"] == "fp16":
            raise ParityError("the fp16 file does not give the trained network's numbers")
        written = own(run, target, **options)
        os.utime(target, (tick := len(list(target.parent.glob("*.onnx"))), tick))
        return written

    monkeypatch.setattr(cellclf.artifact.export, "export", export)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParityError, match="the fp16 file"):
        _write_files(str(finished_run.folder), "all", None, wishes=Wishes(), heatmaps=False, runs=Path("runs"), as_json=False)
    name = finished_run.name
    assert {path.name for path in Path("exported").iterdir()} == {f"{name}.onnx", f"{name}-int8.onnx"}
    assert newest_model().name == f"{name}.onnx"
