import csv
import io
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellclf.card import read_model_file
from cellclf.runtime.providers import gpu_count
from tests.cli.reading import error_line, table_rows
from tests.conftest import Completed

Cli = Callable[..., Completed]

WEIRD_NAMES = (
    "two  words.png",
    "[x].png",
    "[bold]b.png",
    r"back\slash[i].png",
    "ünïcødé 日本.png",
    'it\'s "quoted".png',
    "comma,semi;colon.png",
    "-dash.png",
    "100%.png",
    "$HOME.png",
)
FIRST_RESULT_WAIT_S = 120


@pytest.fixture
def predict(cli: Cli, model_file: Path) -> Cli:
    """cellclf predict --model … --device cpu ARGUMENTS."""

    def run(*arguments: str | Path, **others: Any) -> Completed:
        return cli("predict", "--model", model_file, "--device", "cpu", *arguments, **others)

    return run


@pytest.fixture(scope="module")
def images(sample_folder: Path) -> list[str]:
    return [str(path) for path in sorted((sample_folder / "TEST").rglob("*.jpeg"))]


@pytest.fixture
def mixed(images: list[str], tmp_path: Path) -> list[str]:
    """Good and bad inputs by turns: good, text, good, cut, good, missing."""
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.jpeg").write_bytes(Path(images[0]).read_bytes()[:3000])
    return [images[0], "text.png", images[1], "cut.jpeg", images[2], "missing.png"]


def records_of(done: Completed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_table_has_a_row_an_image_in_order_and_stderr_names_the_model(predict: Cli, images: list[str], model_file: Path) -> None:
    done = predict(*images[:3])
    assert done.code == 0
    rows = table_rows(done.out, "image", "label", "probability")
    assert [row[0] for row in rows] == images[:3]
    labels = read_model_file(model_file).card.labels
    assert all(label in labels and 0.25 <= float(probability) <= 1 for _, label, probability in rows)
    assert read_model_file(model_file).fingerprint[:12] in done.err
    assert "CPUExecutionProvider" in done.err


def test_json_is_one_array_of_records(predict: Cli, images: list[str], model_file: Path) -> None:
    done = predict(*images[:2], "--json")
    assert done.code == 0
    records = json.loads(done.out)
    assert [record["path"] for record in records] == images[:2]
    file = read_model_file(model_file)
    for record in records:
        assert list(record) == ["path", "label", "probability", "probabilities", "abstained", "model", "provider"]
        assert list(record["probabilities"]) == list(file.card.labels)
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert record["probability"] == record["probabilities"][record["label"]] == max(record["probabilities"].values())
        assert (record["model"], record["provider"]) == (file.fingerprint, "CPUExecutionProvider")


def test_json_ndjson_csv_and_the_table_tell_the_same(predict: Cli, mixed: list[str]) -> None:
    from_json = json.loads(predict(*mixed, "--json").out)
    assert records_of(predict(*mixed, "--ndjson")) == from_json
    from_csv = list(csv.DictReader(io.StringIO(predict(*mixed, "--csv").out)))
    from_table = table_rows(predict(*mixed).out, "image", "label", "probability")
    for record, row, cells in zip(from_json, from_csv, from_table, strict=True):
        assert row["path"] == cells[0] == record["path"]
        assert row["error"] == record.get("error", "")
        assert row["label"] == record.get("label", "")
        assert (row["model"], row["provider"]) == (record["model"], record["provider"])
        if "error" in record:
            assert row["probability"] == row["abstained"] == ""
            assert cells[1:] == ["error", record["error"]]
        else:
            assert cells[1:] == [record["label"], f"{record['probability']:.4f}"]
            assert row["abstained"] == ("true" if record["abstained"] else "false") == "false"
            assert float(row["probability"]) == pytest.approx(record["probability"], rel=1e-6)
            assert {label: float(row[f"p_{label}"]) for label in record["probabilities"]} == pytest.approx(record["probabilities"], rel=1e-6)


def test_unreadable_inputs_are_records_at_their_place_the_others_are_predicted_and_the_exit_code_is_3(predict: Cli, mixed: list[str]) -> None:
    done = predict(*mixed, "--ndjson")
    assert done.code == 3
    assert [record["path"] for record in records_of(done)] == mixed
    assert ["error" in record for record in records_of(done)] == [False, True] * 3
    assert records_of(done)[-1]["error"] == "no such file"
    assert "inputs that could not be used: 3" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_every_form_of_output_exits_with_3(predict: Cli, mixed: list[str], form: list[str]) -> None:
    assert predict(*mixed[:2], *form).code == 3


def test_top_k_shows_the_best_labels_first(predict: Cli, images: list[str]) -> None:
    (record,) = json.loads(predict(images[0], "--top-k", "3", "--json").out)
    best = sorted(record["probabilities"].items(), key=lambda item: -item[1])[:3]
    assert [(entry["label"], entry["probability"]) for entry in record["top"]] == best
    rows = table_rows(predict(images[0], "-k", "3").out, "image", "label", "probability")
    assert rows == [[images[0] if not rank else "", label, f"{probability:.4f}"] for rank, (label, probability) in enumerate(best)]


def test_more_labels_than_there_are_gives_all(predict: Cli, images: list[str]) -> None:
    assert len(table_rows(predict(images[0], "-k", "99").out, "image", "label", "probability")) == 4


def test_a_folder_and_a_glob_and_a_list_on_stdin_name_the_same_images(predict: Cli, images: list[str], sample_folder: Path) -> None:
    by_folder = predict(sample_folder / "TEST", "--ndjson")
    assert by_folder.code == 0
    assert [record["path"] for record in records_of(by_folder)] == images
    assert predict(f"{sample_folder}/TEST/**/*.jpeg", "--ndjson").out == by_folder.out
    assert predict("-", "--ndjson", stdin="\n".join(images)).out == by_folder.out


def test_ndjson_streams_results_before_the_list_on_stdin_ends(model_file: Path, images: list[str]) -> None:
    command = [sys.executable, "-m", "cellclf", "predict", "-", "--ndjson", "--model", str(model_file), "--device", "cpu", "--threads", "1"]
    with subprocess.Popen([*command, "--batch-size", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("".join(f"{path}\n" for path in images[:4]))
        running.stdin.flush()
        ready, _, _ = select.select([running.stdout], [], [], FIRST_RESULT_WAIT_S)
        first = running.stdout.readline() if ready else ""
        running.stdin.close()
        rest = running.stdout.readlines()
    assert ready, "no result although more inputs were given than are looked ahead"
    assert [json.loads(line)["path"] for line in [first, *rest]] == images[:4]
    assert running.returncode == 0


def test_odd_file_names_are_shown_whole_when_piped(predict: Cli, images: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "a folder [of] odd names"
    folder.mkdir()
    for name in WEIRD_NAMES:
        shutil.copy(images[0], folder / name)
    done = predict(folder)
    assert done.code == 0
    (label,) = {record["label"] for record in records_of(predict(folder, "--ndjson"))}
    shown = [line[: line.rindex(label)].rstrip() if label in line else line for line in done.out.splitlines()[1:]]
    assert sorted(shown) == sorted(str(folder / name) for name in WEIRD_NAMES)


def test_a_name_with_colons_is_not_turned_into_an_emoji(predict: Cli, images: list[str], tmp_path: Path) -> None:
    shutil.copy(images[0], tmp_path / "a:dog:.png")
    assert table_rows(predict("a:dog:.png").out, "image", "label", "probability")[0][0] == "a:dog:.png"


def test_a_file_whose_name_looks_like_a_glob_is_predicted(predict: Cli, images: list[str], tmp_path: Path) -> None:
    shutil.copy(images[0], tmp_path / "[x].png")
    assert [record["path"] for record in records_of(predict("[x].png", "--ndjson"))] == ["[x].png"]


def test_a_very_long_path_is_one_line_in_the_table_when_piped(predict: Cli, images: list[str], tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 240] * 5)
    folder.mkdir(parents=True)
    shutil.copy(images[0], folder / "x.png")
    assert str(folder / "x.png") in predict(folder).out.splitlines()[1]


def predict_not_utf8(model_file: Path, folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Predict under an ordinary UTF-8 locale, in bytes; tests may run under C, which hides the matter."""
    command = [sys.executable, "-m", "cellclf", "predict", "--model", str(model_file), "--device", "cpu", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    return subprocess.run(command, cwd=folder, env=environment, input=stdin, capture_output=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("form", [[], ["--json"], ["--ndjson"], ["--csv"], ["-"]], ids=["table", "json", "ndjson", "csv", "stdin"])
def test_a_file_name_that_is_no_utf8_is_predicted(model_file: Path, images: list[str], tmp_path: Path, form: list[str]) -> None:
    shutil.copy(images[0], tmp_path / os.fsdecode(b"caf\xe9.png"))
    arguments = ["--ndjson", "-"] if form == ["-"] else [".", *form]
    done = predict_not_utf8(model_file, tmp_path, *arguments, stdin=b"caf\xe9.png\n")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    assert any(label.encode() in done.stdout for label in read_model_file(model_file).card.labels)
    assert b"caf\xe9.png" in done.stdout or b"caf\\udce9.png" in done.stdout or b"caf\\xe9.png" in done.stdout


def test_a_list_separated_by_nul_as_find_print0_gives_it_is_read(predict: Cli, images: list[str]) -> None:
    done = predict("-", "--ndjson", stdin=f"{images[0]}\0{images[1]}\0")
    assert (done.code, done.err) == (0, "")
    assert [record["path"] for record in records_of(done)] == images[:2]


def test_an_empty_folder_and_a_glob_without_a_match_are_errors(predict: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in error_line(predict("empty"))
    assert "'*.gif'" in error_line(predict("*.gif"))


def test_without_a_model_the_newest_in_exported_is_used(cli: Cli, images: list[str], model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    shutil.copy(model_file, tmp_path / "exported" / "mine.onnx")
    done = cli("predict", images[0])
    assert done.code == 0
    assert "exported/mine.onnx" in done.err


def test_no_model_is_one_line_that_says_what_to_do(cli: Cli, images: list[str]) -> None:
    line = error_line(cli("predict", images[0]))
    assert "exported/" in line
    assert "--model" in line


@pytest.mark.parametrize("kind", ["missing", "an image", "cut"])
def test_a_bad_model_is_one_line_that_names_it(cli: Cli, images: list[str], model_file: Path, tmp_path: Path, kind: str) -> None:
    bad = tmp_path / "bad.onnx"
    if kind != "missing":
        bad.write_bytes({"an image": Path(images[0]).read_bytes(), "cut": model_file.read_bytes()[:-100]}[kind])
    assert "bad.onnx" in error_line(cli("predict", images[0], "--model", bad))


def test_a_model_whose_name_has_brackets_is_named_as_it_is(cli: Cli, images: list[str], model_file: Path, tmp_path: Path) -> None:
    shutil.copy(model_file, tmp_path / "[v2].onnx")
    done = cli("predict", images[0], "--model", "[v2].onnx")
    assert done.code == 0
    assert "[v2].onnx" in done.err


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU, so asking for it is no error")
def test_a_gpu_that_is_not_there_is_one_line_and_no_prediction(cli: Cli, images: list[str], model_file: Path) -> None:
    line = error_line(cli("predict", images[0], "--model", model_file, "--device", "cuda"))
    assert "--device cpu" in line or "pip install 'cellclf[cuda" in line


def test_an_unknown_device_is_one_line_with_the_near_name(cli: Cli, images: list[str], model_file: Path) -> None:
    assert "did you mean cuda" in error_line(cli("predict", images[0], "--model", model_file, "--device", "cudda"))


def test_auto_says_on_stderr_what_it_took(cli: Cli, images: list[str], model_file: Path) -> None:
    done = cli("predict", images[0], "--model", model_file, "--json")
    (record,) = json.loads(done.out)
    assert "device auto: took" in done.err
    assert record["provider"] in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.png", "--no-such-option"],
        ["x.png", "--threads", "0"],
        ["x.png", "--batch-size", "none"],
        ["x.png", "-k", "0"],
        ["--json", "--csv", "x.png"],
    ],
    ids=["no input", "unknown option", "no thread", "no number", "no label", "two forms"],
)
def test_wrong_usage_is_one_line_and_exits_with_2(predict: Cli, arguments: list[str]) -> None:
    assert error_line(predict(*arguments), code=2).endswith("; see cellclf predict --help")


def test_a_reader_that_goes_away_is_no_error(model_file: Path, sample_folder: Path) -> None:
    command = f"{sys.executable} -m cellclf predict {sample_folder} --ndjson --batch-size 1 --model {model_file} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_explain_paints_where_the_network_looked(cli: Cli, model_file: Path, sample_folder: Path, tmp_path: Path) -> None:
    images = sorted((sample_folder / "TEST").rglob("*.jpeg"))[:2]
    done = cli("predict", *images, "--model", model_file, "--explain", tmp_path / "seen", "--json")

    assert done.code == 0, done.err
    labels = [record["label"] for record in json.loads(done.out)]
    painted = {path.name for path in (tmp_path / "seen").iterdir()}
    assert painted == {f"{path.stem}-{label}.png" for path, label in zip(images, labels, strict=True)}


def test_explain_paints_over_its_own_pictures_and_over_nothing_else(cli: Cli, model_file: Path, sample_folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "cell.png"
    shutil.copy(sorted((sample_folder / "TEST").rglob("*.jpeg"))[0], image)
    before = image.read_bytes()
    assert "name another" in error_line(cli("predict", image, "--model", model_file, "--explain", image))
    (tmp_path / "folder.png").mkdir()
    assert "name another" in error_line(cli("predict", image, "--model", model_file, "--explain", tmp_path / "folder.png"))
    for _ in range(2):
        assert cli("predict", image, "--model", model_file, "--explain", tmp_path / "seen.png").code == 0
    label = json.loads(cli("predict", image, "--model", model_file, "--json").out)[0]["label"]
    shutil.copy(image, tmp_path / f"cell-{label}.png")
    for _ in range(2):
        assert cli("predict", image, "--model", model_file, "--explain", tmp_path).code == 0
    assert image.read_bytes() == (tmp_path / f"cell-{label}.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("cell-*")) == [f"cell-{label}-2.png", f"cell-{label}.png"]


def test_explain_wants_a_folder_for_several_images(cli: Cli, model_file: Path, sample_folder: Path, tmp_path: Path) -> None:
    images = sorted((sample_folder / "TEST").rglob("*.jpeg"))[:2]
    done = cli("predict", *images, "--model", model_file, "--explain", tmp_path / "seen.png")

    assert done.code == 1
    assert "name a folder" in done.err
    assert not (tmp_path / "seen.png").exists()
