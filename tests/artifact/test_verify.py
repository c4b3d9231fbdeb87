import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cellclf.artifact.verify import BATCH_SIZES, verify
from cellclf.card import read_model_file
from cellclf.errors import ModelFileError, VerificationError
from cellclf.runtime.classifier import Classifier
from tests.model_files import node_of_probabilities, resigned, scaled_head


def mixed_with_its_batch(model: Any) -> None:
    """Each probability is drawn half-way to the mean of its batch: right alone, wrong in company. Rows still sum to 1."""
    node_of_probabilities(model).output[0] = "own"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["own"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Add", ["own", "mean"], ["both"]),
            helper.make_node("Mul", ["both", "half"], ["probabilities"]),
        ]
    )


def one_image_only(model: Any) -> None:
    """The mistake of a converter: the batch dimension is fixed at one."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def test_an_exported_file_is_verified(model_file: Path) -> None:
    found = verify(model_file, device="cpu")
    assert found.path == model_file
    assert found.fingerprint == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert found.provider == "CPUExecutionProvider"
    assert found.cases == len(read_model_file(model_file).card.golden) == 8
    assert 0 <= found.max_difference <= found.tolerance


def test_a_copy_under_another_name_is_verified_too(model_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "[other] name.onnx"
    copy.write_bytes(model_file.read_bytes())
    assert verify(copy, device="cpu").fingerprint == verify(model_file, device="cpu").fingerprint


@pytest.mark.parametrize("factor", [-1.0, 2.0])
def test_golden_cases_that_other_weights_gave_are_found_out(model_file: Path, tmp_path: Path, factor: float) -> None:
    forged = resigned(model_file, tmp_path / "m.onnx", network=scaled_head(factor))
    assert Classifier(forged, device="cpu").card == read_model_file(forged).card, "its digests are valid: only its numbers are wrong"
    with pytest.raises(VerificationError, match=r"m\.onnx gives other probabilities on CPUExecutionProvider.*0\.001 is allowed for fp32"):
        verify(forged, device="cpu")


def test_a_single_wrong_golden_case_is_enough(model_file: Path, tmp_path: Path) -> None:
    cases = [case.model_dump() for case in read_model_file(model_file).card.golden]
    first, *rest = cases[-1]["probabilities"]
    cases[-1]["probabilities"] = (first + 0.002, *rest)
    with pytest.raises(VerificationError, match=r"differ by up to 0\.002"):
        verify(resigned(model_file, tmp_path / "m.onnx", card={"golden": cases}), device="cpu")


def test_a_difference_below_the_cards_tolerance_is_allowed_and_told(model_file: Path, tmp_path: Path) -> None:
    cases = [case.model_dump() for case in read_model_file(model_file).card.golden]
    first, *rest = cases[0]["probabilities"]
    cases[0]["probabilities"] = (first + 0.0005, *rest)
    found = verify(resigned(model_file, tmp_path / "m.onnx", card={"golden": cases}), device="cpu")
    assert found.max_difference == pytest.approx(0.0005, abs=1e-5)


def test_batches_of_1_2_7_and_32_are_replayed(model_file: Path) -> None:
    assert BATCH_SIZES == (1, 2, 7, 32)
    assert verify(model_file, device="cpu").batch_sizes == BATCH_SIZES


def test_a_network_whose_answer_depends_on_its_batch_is_found_out(model_file: Path, tmp_path: Path) -> None:
    forged = resigned(model_file, tmp_path / "m.onnx", network=mixed_with_its_batch, card={"golden_tolerance": 1e-5})
    classifier = Classifier(forged, device="cpu")
    cases = read_model_file(model_file).card.golden
    onnx.checker.check_model(onnx.load(forged))
    assert classifier.card.golden == cases
    with pytest.raises(VerificationError, match="other probabilities"):
        verify(forged, device="cpu")


def test_a_network_that_takes_one_image_only_is_a_verification_error(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        verify(resigned(model_file, tmp_path / "m.onnx", network=one_image_only), device="cpu")


def test_a_network_that_gives_no_probabilities_is_a_verification_error(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="no probabilities"):
        verify(resigned(model_file, tmp_path / "m.onnx", network=scaled_head(float("nan"))), device="cpu")


def test_a_changed_file_is_refused_before_it_is_replayed(model_file: Path, tmp_path: Path) -> None:
    content = bytearray(model_file.read_bytes())
    content[1000] ^= 255
    changed = tmp_path / "m.onnx"
    changed.write_bytes(content)
    with pytest.raises(ModelFileError):
        verify(changed, device="cpu")


def test_what_auto_took_is_told(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path))  # no plan of another test
    notes: list[str] = []
    found = verify(model_file, on_note=notes.append)
    assert [note.partition(" (")[0] for note in notes] == ["device auto: took cpu"]
    assert found.provider in notes[0]
