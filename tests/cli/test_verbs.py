import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.backbones import BACKBONES
from cellclf.card import Card, read_model_file
from cellclf.data.manifest import SPLITS
from cellclf.runtime.providers import PROVIDERS
from cellclf.training.run import Run
from tests.cli.reading import NO_NETWORK, error_line, table_rows
from tests.conftest import Completed
from tests.model_files import resigned, scaled_head

Cli = Callable[..., Completed]


def bracketed(model_file: Path, tmp_path: Path) -> Path:
    """A copy of the model whose path reads like Rich's markup, a closing tag included."""
    folder = tmp_path / "a["
    folder.mkdir()
    return Path(shutil.copy(model_file, folder / "b].onnx"))


# verify and show


def test_verify_proves_a_file_and_names_its_sha256(cli: Cli, model_file: Path) -> None:
    done = cli("verify", model_file)
    assert done.code == 0
    assert f"verified {model_file} on" in done.out
    assert "8 golden cases in batches of 1, 2, 7, 32" in done.out
    assert f"sha256 {read_model_file(model_file).fingerprint}" in done.out


def test_verify_as_json(cli: Cli, model_file: Path) -> None:
    found = json.loads(cli("verify", model_file, "--device", "cpu", "--json").out)
    assert (found["path"], found["fingerprint"]) == (str(model_file), read_model_file(model_file).fingerprint)
    assert (found["cases"], found["batch_sizes"], found["provider"]) == (8, [1, 2, 7, 32], "CPUExecutionProvider")
    assert found["max_difference"] <= found["tolerance"]


def test_verify_of_a_file_that_gives_other_numbers_is_one_line(cli: Cli, model_file: Path, tmp_path: Path) -> None:
    forged = resigned(model_file, tmp_path / "m.onnx", network=scaled_head(-1))
    assert "gives other probabilities" in error_line(cli("verify", forged))


@pytest.mark.parametrize("verb", ["verify", "show", "evaluate"])
def test_a_file_that_is_no_model_is_one_line(cli: Cli, verb: str, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    assert "text.onnx" in error_line(cli(verb, "text.onnx"))


@pytest.mark.parametrize("verb", ["verify", "show", "evaluate"])
def test_a_model_whose_path_reads_like_markup_is_named_as_it_is(cli: Cli, verb: str, model_file: Path, tmp_path: Path) -> None:
    path = bracketed(model_file, tmp_path)
    done = cli(verb, path)
    assert "Traceback" not in done.err
    assert done.code == 0
    assert str(path) in done.out


def test_show_as_json_is_the_card(cli: Cli, model_file: Path) -> None:
    done = cli("show", model_file, "--json")
    assert done.code == 0
    assert done.err == ""
    assert Card.parse(done.out, where="stdout") == read_model_file(model_file).card


def test_show_tells_what_a_user_must_know_before_trusting_a_file(cli: Cli, model_file: Path) -> None:
    done, file = cli("show", model_file), read_model_file(model_file)
    assert done.code == 0
    for text in (
        file.fingerprint,
        ", ".join(file.card.labels),
        file.card.intended_use,
        file.card.licence,
        file.card.protocol,
        "uint8 [batch, 48, 48, 3]",
    ):
        assert text in done.out
    assert f"{file.card.metrics['test']['accuracy'].value:.4f}" in done.out
    assert file.card.graph_sha256 in done.out
    assert file.card.heatmap is not None
    assert f"heatmaps: float32 [batch, {len(file.card.labels)}, {file.card.heatmap[0]}, {file.card.heatmap[1]}]" in done.out
    assert "not measured beside fp32" in done.out


def test_show_tells_the_speed_beside_fp32(cli: Cli, model_file: Path, tmp_path: Path) -> None:
    gain = {"ratio": 2.5, "images_per_second": 100.4, "fp32_images_per_second": 40, "batch": 4, "threads": 1, "provider": "CPU", "cpu": "some CPU"}
    file = resigned(model_file, tmp_path / "m.onnx", card={"benefit": gain})
    assert "2.50 × fp32: 100 images/s in batches of 4 on 1 threads of some CPU, CPU" in cli("show", file).out


def test_show_tells_how_much_of_an_int8_file_is_not_in_int8(cli: Cli, model_file: Path, tmp_path: Path) -> None:
    assert "convolutions in fp32" not in cli("show", model_file).out
    file = resigned(model_file, tmp_path / "m.onnx", card={"precision": "int8", "convolutions_in_fp32": [8, 27]})
    assert "int8; 8 of 27 convolutions in fp32" in " ".join(cli("show", file).out.split())


def test_show_says_that_a_split_leaks(cli: Cli, model_file: Path, tmp_path: Path) -> None:
    leaky = resigned(model_file, tmp_path / "m.onnx", card={"leaks": ["test LEAKS: patients on both sides"]})
    assert "test LEAKS: patients on both sides" in cli("show", leaky).out


# doctor


def test_doctor_as_json_names_every_provider_data_set_and_backbone(cli: Cli, sample_folder: Path, tmp_path: Path) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert [state["name"] for state in found["providers"]] == list(PROVIDERS)
    assert found["providers"][0]["works"]
    assert found["extras"]["openvino"] in ([], ["openvino"])
    assert list(found["weights"]) == list(BACKBONES)
    assert found["datasets"]["sample"]["found"] == str(sample_folder)
    assert found["datasets"]["chest-xray"]["found"] is None
    assert found["datasets"]["chest-xray"]["looked_in"]
    assert found["cache"].startswith(os.environ["CELLCLF_CACHE"])
    assert found["models"] == []
    assert not list(tmp_path.iterdir()), "it only looks"


def test_doctor_tells_the_same_in_words(cli: Cli) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert "cpu: works" in done.out
    assert "chest-xray: not here; looked in" in done.out
    assert all(f"{name}: " in done.out for name in BACKBONES)


# data


def test_data_show_counts_labels_and_splits(cli: Cli, sample_folder: Path, finished_run: Run) -> None:
    done = cli("data", "show", "sample", "--image-size", "48")
    assert done.code == 0
    assert f"sample in {sample_folder}" in done.out
    counts = finished_run.setup().data.counts
    rows = {row[0]: row[1:] for row in table_rows(done.out, "official", *counts["test"], "all") if row[0] in SPLITS}
    assert rows == {split: [*(str(count) for count in counts[split].values()), str(sum(counts[split].values()))] for split in SPLITS}
    assert "LEAKS" not in done.out


def test_data_show_as_json_is_what_a_run_would_record(cli: Cli, finished_run: Run) -> None:
    found = json.loads(cli("data", "show", "sample", "--image-size", "48", "--json").out)
    own = finished_run.setup().data
    assert (found["fingerprint"], found["counts"], found["groups_known"], found["leaks"]) == (own.fingerprint, own.counts, True, [])


def test_the_random_protocol_is_marked_leaks(cli: Cli) -> None:
    done = cli("data", "show", "sample", "--image-size", "48", "--protocol", "random")
    assert done.code == 0
    assert "validation LEAKS:" in done.out
    assert "test LEAKS:" in done.out


def test_data_show_names_a_broken_file_and_exits_with_3(cli: Cli, sample_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sample_folder, tmp_path / "own"))
    broken = folder / "TRAIN" / "MONOCYTE" / "broken [1].png"
    broken.write_text("no picture")
    done = cli("data", "show", "own", "--image-size", "48")
    assert done.code == 3
    assert "cannot be used: TRAIN/MONOCYTE/broken [1].png: " in done.out
    line = error_line(cli("data", "show", "own", "--image-size", "48", "--on-bad-image", "error"))
    assert str(broken) in line


def test_data_show_of_a_label_that_reads_like_markup_shows_it(cli: Cli, sample_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sample_folder, tmp_path / "own"))
    for split in ("TRAIN", "TEST"):
        (folder / split / "MONOCYTE").rename(folder / split / "[red]")
    done = cli("data", "show", "own", "--image-size", "48")
    assert done.code == 0
    assert "[red]" in done.out


def test_data_show_alone_lists_every_named_set(cli: Cli) -> None:
    done = cli("data", "show")
    assert done.code == 0
    assert all(name in done.out for name in ("blood-cells", "chest-xray", "sample"))
    assert "cellclf data fetch chest-xray" in done.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sampel"], "did you mean sample"),
        (["sample", "--protocol", "rondom"], "random"),
        (["sample", "--fractions", "nan,nan,nan"], "fractions"),
        (["sample", "--protocol", "grouped", "--fold", "²/5"], "fold"),
        (["sample", "--on-bad-image", "ignore"], "--on-bad-image 'ignore'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_data_options_are_one_line_that_names_them(cli: Cli, arguments: list[str], named: str) -> None:
    assert named in error_line(cli("data", "show", *arguments))


@pytest.mark.parametrize("size", ["0", "-5"])
def test_an_image_size_that_cannot_be_is_refused_without_a_traceback(cli: Cli, size: str) -> None:
    done = cli("data", "show", "sample", "--image-size", size)
    assert done.code in (1, 2)
    assert "Traceback" not in done.err
    assert "image-size" in done.err


def test_data_fetch_prints_where_a_set_is(cli: Cli, sample_folder: Path) -> None:
    done = cli("data", "fetch", "sample")
    assert (done.code, done.out) == (0, f"{sample_folder}\n")


def test_data_fetch_of_an_unknown_set_offers_the_near_name(cli: Cli) -> None:
    assert "did you mean chest-xray" in error_line(cli("data", "fetch", "chestxray"))


def test_data_fetch_without_a_network_tells_the_three_ways_to_provide_the_set(cli: Cli) -> None:
    line = error_line(cli("data", "fetch", "chest-xray", **NO_NETWORK))
    assert "could not be fetched" in line
    assert all(way in line for way in ("CELLCLF_DATA", "cellclf data fetch chest-xray", "--data DIR"))


# train and export


@pytest.mark.parametrize(
    ("arguments", "offered"),
    [
        (["--backbone", "resnet5"], "did you mean resnet50"),
        (["--protocol", "groupd"], "grouped"),
        (["--augment", "cels"], "did you mean cells"),
        (["--hidden", "many"], "--hidden 'many'"),
        (["--name", "../elsewhere"], "must be the name of a folder in runs/"),
        (["--learning-rate", "inf", "--weights", "none"], "--learning-rate inf"),
        (["--image-size", "-96"], "--image-size -96"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_with_a_wrong_choice_is_one_line_and_makes_no_run(cli: Cli, tmp_path: Path, arguments: list[str], offered: str) -> None:
    line = error_line(cli("train", "--data", "sample", *arguments))
    assert offered in line
    assert not list(tmp_path.iterdir())


def test_resuming_what_is_no_run_is_one_line_and_so_is_a_recipe_given_beside_it(cli: Cli, tmp_path: Path) -> None:
    assert "'nothing-of-that-name'" in error_line(cli("train", "--resume", "nothing-of-that-name"))
    assert "--epochs cannot be given with --resume" in error_line(cli("train", "--resume", "nothing-of-that-name", "--epochs", "3"))
    assert not list(tmp_path.iterdir())


def test_train_without_the_imagenet_file_names_where_it_looked_and_leaves_no_run(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", "--backbone", "mobilenet025", "--data", "sample", "--image-size", "48", **NO_NETWORK)
    line = error_line(done)
    assert "ImageNet weights of MobileNet 0.25 are not here and could not be downloaded" in line
    assert str(Path(os.environ["KERAS_HOME"]) / "models" / BACKBONES["mobilenet025"].weights_filename) in line
    assert "--weights FILE" in line
    assert "--weights none" in line
    assert not list(tmp_path.iterdir())
    assert not list(Path(os.environ["KERAS_HOME"]).rglob("*.h5"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--precision", "fp8"], "did you mean"),
        (["--output", "model.txt"], "must end in .onnx"),
        (["--output", "model.onnx", "--precision", "all"], "one --precision"),
        ([], "cellclf train"),
        (["no-such-run"], "no-such-run"),
    ],
    ids=["unknown precision", "wrong suffix", "one file for three", "no run", "unknown run"],
)
def test_export_with_a_wrong_choice_is_one_line_and_writes_nothing(cli: Cli, tmp_path: Path, arguments: list[str], named: str) -> None:
    assert named in error_line(cli("export", *arguments))
    assert not list(tmp_path.rglob("*.onnx"))


def test_export_writes_the_newest_run_where_predict_finds_it_and_prints_nothing_but_its_progress(
    cli: Cli, finished_run: Run, test_images: list[Path], tmp_path: Path
) -> None:
    done = cli("export", "--runs", finished_run.folder.parent, "--precision", "fp32,int8,fp32", "--json")
    assert done.code == 0
    paths = [Path("exported") / f"{finished_run.name}{suffix}.onnx" for suffix in ("", "-int8")]
    assert sorted((tmp_path / "exported").iterdir()) == sorted(tmp_path / path for path in paths)
    for path, written in zip(paths, json.loads(done.out), strict=True):
        assert (written["path"], written["size_bytes"]) == (str(path), (tmp_path / path).stat().st_size)
        assert Card.parse(json.dumps(written["card"]), where="stdout") == read_model_file(tmp_path / path).card
    predicted = cli("predict", test_images[0], "--json")
    assert json.loads(predicted.out)[0]["model"] == read_model_file(tmp_path / paths[-1]).fingerprint
    assert not [
        line
        for line in done.err.splitlines()
        if not line.startswith(("exporting run ", "int8 brings no benefit on this machine: ", "the network calls all "))
    ], "TensorFlow's and ONNX Runtime's chatter is held back"
