import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cellclf.artifact.tuning import Measured, Setting, chosen, tune
from cellclf.card import read_model_file
from cellclf.errors import UnknownNameError
from tests.model_files import resigned, scaled_head

SHIPPED = Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx"


def measured(device: str, ratios: Sequence[float], *, threads: int = 1, batch: int = 16) -> Measured:
    return Measured(Setting(device, threads, 2, batch), tuple(100 * ratio for ratio in ratios), tuple(ratios))


STEADY = [1.0] * 5


def test_what_beats_the_default_by_more_than_the_noise_becomes_the_plan() -> None:
    one = [measured("cpu", STEADY), measured("openvino", [1.1, 1.2, 1.2, 1.3, 1.2], threads=2, batch=1)]
    lot = [measured("cpu", STEADY), measured("openvino", [1.4, 1.5, 1.6, 1.5, 1.5], batch=8), measured("openvino", [1.3] * 5, batch=32)]
    plan = chosen("f" * 64, one, lot)
    assert plan is not None
    assert (plan.device, plan.sessions, plan.threads, plan.batch, plan.single_threads) == ("openvino", 2, 1, 8, 2)
    assert (plan.gain, plan.single_gain, plan.images_per_second) == (1.5, 1.2, 150)
    assert plan.single_ms == pytest.approx(1000 / 120)


@pytest.mark.parametrize(
    "ratios", [[0.8, 1.1, 1.3, 0.9, 1.05], [1.0, 1.0, 1.0, 1.0, 1.0], [0.7, 0.7, 0.7, 0.7, 0.7]], ids=["noisy", "equal", "worse"]
)
def test_the_default_is_kept_unless_it_is_beaten_beyond_the_noise(ratios: list[float]) -> None:
    both = [measured("cpu", STEADY), measured("openvino", ratios)]
    assert chosen("f" * 64, both, both) is None


def test_a_provider_that_is_faster_for_many_and_slower_for_one_is_not_taken() -> None:
    one = [measured("cpu", STEADY), measured("openvino", [0.8] * 5)]
    lot = [measured("cpu", STEADY), measured("openvino", [2.0] * 5)]
    assert chosen("f" * 64, one, lot) is None


def test_one_burst_of_a_neighbour_is_no_noise_and_half_a_range_is() -> None:
    assert measured("cpu", [1.2, 1.2, 1.2, 9.0, 0.1]).noise == pytest.approx(0)
    assert measured("cpu", [1.0, 1.1, 1.2, 1.3, 1.4]).noise == pytest.approx(0.1)


def test_the_default_is_measured_first_and_against_itself() -> None:
    found = tune(read_model_file(SHIPPED), devices=["cpu"], seconds=0.2)
    assert found.left_out == {}
    for group in (found.single, found.many):
        assert set(group[0].ratios) == {1.0}
        assert len({each.setting for each in group}) == len(group)
        assert all(rate > 0 for each in group for rate in each.images_per_second)
    assert found.many[0].setting.threads == 1
    assert {each.setting.batch for each in found.single} == {1}


def test_a_provider_that_gives_other_numbers_is_left_out() -> None:
    pytest.importorskip("openvino")
    found = tune(read_model_file(SHIPPED), devices=["openvino-bf16"], seconds=0.2)
    assert list(found.left_out) == ["openvino-bf16"]
    assert "0.001" in found.left_out["openvino-bf16"] or "bfloat16" in found.left_out["openvino-bf16"]
    assert {each.setting.device for each in (*found.single, *found.many)} == {"cpu"}


def test_a_file_whose_own_numbers_are_wrong_here_is_not_tuned(tmp_path: Path) -> None:
    forged = read_model_file(resigned(SHIPPED, tmp_path / "m.onnx", network=scaled_head(-1.0)))
    with pytest.raises(Exception, match="device cpu, cannot be tuned against: gives other numbers"):
        tune(forged, devices=["cpu"], seconds=0.2)


def test_what_is_not_installed_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = tune(read_model_file(SHIPPED), seconds=0.2)
    assert "pip install 'cellclf[openvino]'" in found.left_out["openvino"]


def test_an_unknown_provider_is_an_error_that_offers_the_near_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean openvino"):
        tune(read_model_file(SHIPPED), devices=["openvin"], seconds=0.2)
