"""A Triton model repository, read with the schema that Triton publishes and run with ONNX Runtime."""

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cellclf.artifact import triton
from cellclf.artifact.golden import golden_image
from cellclf.artifact.triton import CONFIG, LABELS, MODEL, Deployment, write_triton
from cellclf.artifact.verify import BATCH_SIZES
from cellclf.card import ModelFile, read_model_file
from cellclf.errors import CellclfError, ModelFileError, VerificationError
from tests.model_files import resigned, scaled_head
from tests.serving.conftest import SHIPPED

TYPES = {"tensor(uint8)": model_config_pb2.TYPE_UINT8, "tensor(float)": model_config_pb2.TYPE_FP32}


@pytest.fixture(scope="module")
def file() -> ModelFile:
    return read_model_file(SHIPPED)


def parsed(text: str) -> Any:
    """By Triton's own schema; raises text_format.ParseError for an unknown field or a wrong type."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def config_of(model: Path) -> Any:
    return parsed((model / CONFIG).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_first_version_is_the_very_file_with_its_config_and_labels(file: ModelFile, tmp_path: Path) -> None:
    written = write_triton(file, tmp_path / "models", name="cells")
    assert (written.path, written.version, written.notes) == (tmp_path / "models" / "cells" / "1", 1, ())
    assert set(contents(tmp_path)) == {f"models/cells/{name}" for name in (CONFIG, LABELS, f"1/{MODEL}")}
    assert hashlib.sha256((written.path / MODEL).read_bytes()).hexdigest() == file.fingerprint
    assert (tmp_path / "models" / "cells" / LABELS).read_text().splitlines() == list(file.card.labels)


def test_the_config_says_what_the_schema_lets_it_say(file: ModelFile, tmp_path: Path) -> None:
    deployment = Deployment(max_batch_size=12, max_queue_delay_us=300, instances=2, instance_kind="gpu")
    write_triton(file, tmp_path, name="cells", deployment=deployment)
    config = config_of(tmp_path / "cells")
    assert (config.name, config.backend, config.max_batch_size) == ("cells", "onnxruntime", 12)
    assert config.version_policy.latest.num_versions == 1
    assert list(config.dynamic_batching.preferred_batch_size) == [3, 6, 12]
    assert config.dynamic_batching.max_queue_delay_microseconds == 300
    assert [(group.kind, group.count) for group in config.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)]
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "resize": file.card.resize,
        "sha256_of_version_1": file.fingerprint,
    }


def test_the_config_without_choices_takes_what_is_proven(file: ModelFile, tmp_path: Path) -> None:
    write_triton(file, tmp_path, name="cells")
    config = config_of(tmp_path / "cells")
    assert config.max_batch_size == max(BATCH_SIZES)
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 64])
def test_batches_that_are_preferred_or_warmed_up_are_allowed_ones(file: ModelFile, largest: int) -> None:
    config = parsed(triton.config_text(file.card, "cells", Deployment(max_batch_size=largest), {}))
    preferred = list(config.dynamic_batching.preferred_batch_size)
    assert preferred == sorted(set(preferred))
    assert preferred[0] >= 1
    assert preferred[-1] == largest
    assert sorted(sample.batch_size for sample in config.model_warmup) == sorted({1, largest})
    assert len({sample.name for sample in config.model_warmup}) == len(config.model_warmup)


def test_inputs_outputs_and_warm_up_are_those_of_the_network(file: ModelFile, tmp_path: Path) -> None:
    written = write_triton(file, tmp_path, name="cells")
    config = config_of(tmp_path / "cells")
    session = onnxruntime.InferenceSession(written.path / MODEL, providers=["CPUExecutionProvider"])
    for told, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [(each.name, each.data_type, list(each.dims)) for each in told] == [(each.name, TYPES[each.type], each.shape[1:]) for each in real]
        assert all(each.shape[0] == "batch" for each in real), "Triton's batch is a first dimension that the config leaves out"
    assert [output.label_filename for output in config.output] == [LABELS, ""]
    for sample in config.model_warmup:
        assert {name: (value.data_type, list(value.dims)) for name, value in sample.inputs.items()} == {
            each.name: (each.data_type, list(each.dims)) for each in config.input
        }
        assert all(value.WhichOneof("input_data_type") == "random_data" for value in sample.inputs.values())


def test_a_file_without_heat_maps_promises_none(file: ModelFile) -> None:
    config = parsed(triton.config_text(file.card.model_copy(update={"heatmap": None}), "cells", Deployment(), {}))
    assert [output.name for output in config.output] == ["probabilities"]


def test_the_versions_file_gives_the_golden_probabilities_with_plain_onnx_runtime(file: ModelFile, tmp_path: Path) -> None:
    written = write_triton(file, tmp_path, name="cells")
    session = onnxruntime.InferenceSession(written.path / MODEL, providers=["CPUExecutionProvider"])
    card = file.card
    images = np.stack([golden_image(case.seed, height_px=card.height_px, width_px=card.width_px) for case in card.golden])
    (found,) = session.run(["probabilities"], {"image": images})
    assert np.abs(found - np.array([case.probabilities for case in card.golden])).max() <= card.golden_tolerance


@pytest.mark.parametrize("line", ["max_batch: 3", 'max_batch_size: "three"', "instance_group [ { kind: KIND_TPU } ]", "input [ { dims: [ 1.5 ] } ]"])
def test_the_schema_refuses_an_unknown_field_or_a_wrong_type(file: ModelFile, line: str) -> None:
    text = triton.config_text(file.card, "cells", Deployment(), {})
    parsed(text)
    with pytest.raises(text_format.ParseError):
        parsed(f"{text}{line}\n")


def test_another_export_is_the_next_version_and_leaves_the_older_as_it_is(file: ModelFile, tmp_path: Path) -> None:
    write_triton(file, tmp_path, name="cells")
    before = contents(tmp_path)
    other = read_model_file(resigned(SHIPPED, tmp_path / "other.onnx", card={"created": "later"}))
    written = write_triton(other, tmp_path, name="cells", deployment=Deployment(max_batch_size=8))
    assert written.version == 2
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {f"cells/{CONFIG}"}
    assert after[f"cells/2/{MODEL}"] == other.content
    config = config_of(tmp_path / "cells")
    assert config.max_batch_size == 8
    assert config.parameters["sha256_of_version_1"].string_value == file.fingerprint
    assert config.parameters["sha256_of_version_2"].string_value == other.fingerprint


def test_a_gap_is_not_filled_and_other_folders_are_no_versions(file: ModelFile, tmp_path: Path) -> None:
    write_triton(file, tmp_path, name="cells")
    (tmp_path / "cells" / "1").rename(tmp_path / "cells" / "7")
    for name in ("012", "configs", ".9"):
        (tmp_path / "cells" / name).mkdir()
    assert write_triton(file, tmp_path, name="cells").version == 8


def test_a_config_that_was_edited_by_hand_stays_and_is_named(file: ModelFile, tmp_path: Path) -> None:
    write_triton(file, tmp_path, name="cells")
    path = tmp_path / "cells" / CONFIG
    path.write_text(path.read_text().replace("latest { num_versions: 1 }", "specific { versions: [ 1 ] }"))
    edited = path.read_text()
    written = write_triton(file, tmp_path, name="cells")
    assert written.version == 2
    assert path.read_text() == edited
    assert [str(path) in note and "edited by hand" in note for note in written.notes] == [True]


@pytest.mark.parametrize("field", ["labels", "heatmap"])
def test_a_file_that_needs_another_config_is_no_version_of_the_same_model(file: ModelFile, tmp_path: Path, field: str) -> None:
    write_triton(file, tmp_path / "models", name="cells")
    before = contents(tmp_path)
    changed = {"labels": list(file.card.labels[::-1]), "heatmap": None}[field]
    other = read_model_file(resigned(SHIPPED, tmp_path / "other.onnx", card={field: changed}))
    with pytest.raises(CellclfError, match=rf"has {field} .*give another --name"):
        write_triton(other, tmp_path / "models", name="cells")
    assert contents(tmp_path / "models") == {name.removeprefix("models/"): value for name, value in before.items()}


def test_a_model_of_somebody_elses_is_left_alone(file: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "cells" / "1").mkdir(parents=True)
    (tmp_path / "cells" / "1" / MODEL).write_bytes(b"another network")
    with pytest.raises(ModelFileError):
        write_triton(file, tmp_path, name="cells")
    assert contents(tmp_path) == {f"cells/1/{MODEL}": b"another network"}


def test_a_file_that_gives_other_numbers_is_not_deployed(tmp_path: Path) -> None:
    forged = read_model_file(resigned(SHIPPED, tmp_path / "forged.onnx", network=scaled_head(-1)))
    with pytest.raises(VerificationError):
        write_triton(forged, tmp_path / "models", name="cells")
    assert not (tmp_path / "models").exists()


def interrupt_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes when this file has just been written."""
    real: Callable[[Path, str | bytes], None] = triton._write

    def interrupted(path: Path, content: str | bytes) -> None:
        real(path, content)
        if path.name == name:
            raise KeyboardInterrupt

    monkeypatch.setattr(triton, "_write", interrupted)


@pytest.mark.parametrize(("earlier", "name"), [(0, CONFIG), (0, LABELS), (0, MODEL), (1, MODEL)])
def test_a_write_that_is_interrupted_leaves_what_was_there(
    file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int, name: str
) -> None:
    for _ in range(earlier):
        write_triton(file, tmp_path, name="cells")
    before = contents(tmp_path)
    interrupt_after(name, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        write_triton(file, tmp_path, name="cells")
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cells"] * earlier


def test_a_version_stands_whole_before_the_config_tells_of_it(file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_triton(file, tmp_path, name="cells")
    interrupt_after(CONFIG, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        write_triton(file, tmp_path, name="cells")
    assert (tmp_path / "cells" / "2" / MODEL).read_bytes() == file.content
    assert config_of(tmp_path / "cells").name == "cells"


def test_whoever_reads_meanwhile_sees_whole_versions_only_and_two_writers_get_two_numbers(file: ModelFile, tmp_path: Path) -> None:
    writers = [threading.Thread(target=write_triton, args=(file, tmp_path), kwargs={"name": "cells"}) for _ in range(4)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        versions = [path for path in tmp_path.glob("cells/[1-9]*") if path.is_dir()]
        for version in versions:
            assert (version / MODEL).read_bytes() == file.content
            assert (version.parent / LABELS).read_text().splitlines() == list(file.card.labels)
            config_of(version.parent)
        seen = max(seen, len(versions))
    for writer in writers:
        writer.join()
    # The same bytes may share a number where two writers are at the same place at the same time; other bytes never do (next test).
    assert seen >= 1
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("first", [True, False], ids=["a first version", "a next version"])
def test_a_number_that_another_writer_takes_meanwhile_is_not_lost_to_it(
    file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    if not first:
        write_triton(file, tmp_path, name="cells")
    other = read_model_file(resigned(SHIPPED, tmp_path / "other.onnx", card={"created": "later"}))
    real: Callable[[Path, str | bytes], None] = triton._write
    done = threading.Event()

    def overtaken(path: Path, content: str | bytes) -> None:
        real(path, content)
        if path.name == MODEL and not done.is_set():
            done.set()
            write_triton(other, tmp_path, name="cells")

    monkeypatch.setattr(triton, "_write", overtaken)
    written = write_triton(file, tmp_path, name="cells")
    number = 2 if first else 3
    assert written.version == number
    assert (tmp_path / "cells" / str(number) / MODEL).read_bytes() == file.content
    assert (tmp_path / "cells" / str(number - 1) / MODEL).read_bytes() == other.content
    assert config_of(tmp_path / "cells").parameters[f"sha256_of_version_{number}"].string_value == file.fingerprint


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", 'a"b', "a\nb", "-x"])
def test_a_name_that_is_none_is_refused(file: ModelFile, tmp_path: Path, name: str) -> None:
    with pytest.raises(CellclfError, match="cannot name a model"):
        write_triton(file, tmp_path / "models", name=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", ["", "two\nlines", "a\rb"])
def test_a_label_that_is_no_line_is_refused(file: ModelFile, tmp_path: Path, label: str) -> None:
    odd = ModelFile(file.path, file.content, file.card.model_copy(update={"labels": (label, *file.card.labels[1:])}))
    with pytest.raises(CellclfError, match="one a line"):
        write_triton(odd, tmp_path / "models", name="cells")
    assert not list(tmp_path.iterdir())


def test_a_repository_that_is_a_file_is_refused(file: ModelFile, tmp_path: Path) -> None:
    shutil.copy(SHIPPED, tmp_path / "models")
    with pytest.raises(CellclfError, match="is no folder"):
        write_triton(file, tmp_path / "models", name="cells")


@pytest.mark.parametrize("wrong", [{"max_batch_size": 0}, {"max_queue_delay_us": -1}, {"instances": 0}, {"instance_kind": "tpu"}])
def test_a_deployment_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CellclfError):
        Deployment(**wrong)


def test_what_the_file_decides_by_and_triton_does_not_is_said(deciding_file: Path, tmp_path: Path) -> None:
    (note,) = write_triton(read_model_file(deciding_file), tmp_path, name="cells").notes
    assert "probabilities only" in note
    assert "threshold and band without an answer" in note
