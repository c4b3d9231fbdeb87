from pathlib import Path

import pytest

from cellclf.errors import StoredFileError
from cellclf.training.run import Run, runs_in


@pytest.mark.parametrize("content", [None, b"epoch,train_loss\n1,0.5\n", b"epoch\nx\n", b"\xff\xfe"])
def test_a_history_that_cannot_be_read_is_one_error_naming_the_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(StoredFileError, match=r"history\.csv cannot be read"):
        Run(tmp_path).history()


@pytest.mark.parametrize("content", [None, b"path\na.png\n", b"path,group,split,label,predicted,p_A\na,g,test,A,A,high\n", b"\xff\xfe"])
def test_predictions_that_cannot_be_read_are_one_error_naming_the_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "predictions.csv").write_bytes(content)
    with pytest.raises(StoredFileError, match=r"predictions\.csv cannot be read"):
        Run(tmp_path).predictions("test")


def test_run_folders_are_listed_by_name_finished_or_not(tmp_path: Path) -> None:
    for name in ("b", "a", "no-run"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "recipe.json").touch()
    assert [run.name for run in runs_in(tmp_path)] == ["a", "b"]
