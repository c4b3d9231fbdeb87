"""Reading what the machine did."""

from pathlib import Path

import pytest

from benchmarks.machine import Energy, Machine, Ticks, package_energy, read_ticks, watched

STAT = "cpu  100 20 30 800 40 5 5 50 7 7\ncpu0 1 2 3\n"


def test_stat_is_parted_into_work_steal_and_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda _: 10)
    assert read_ticks(STAT) == Ticks(busy_s=16.0, steal_s=5.0, passed_s=105.0)


def test_the_share_of_others_leaves_ours_out() -> None:
    before, after = Ticks(10, 1, 100), Ticks(16, 2, 120)
    assert after.others(before, own_s=4) == pytest.approx(0.1)
    assert after.stolen(before) == pytest.approx(0.05)
    assert after.others(before, own_s=7) == 0


def test_a_watched_window_holds_the_joules_spent_in_it() -> None:
    found: list[Machine] = []
    counter = iter([10.0, 14.5])
    with watched(Energy(lambda: next(counter)), found, lambda: 0.0):
        pass
    assert found[0].joules == 4.5


def test_package_counters_are_added_and_go_on_after_a_wrap(tmp_path: Path) -> None:
    for zone, value in (("intel-rapl:0", 900_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 77)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(str(value))
        (tmp_path / zone / "max_energy_range_uj").write_text("1000000")
    (tmp_path / "intel-rapl:2").mkdir()  # the whole platform, in which the packages are
    for name, text in (("name", "psys\n"), ("energy_uj", "5000000"), ("max_energy_range_uj", "9000000")):
        (tmp_path / "intel-rapl:2" / name).write_text(text)
    energy = package_energy(tmp_path)
    assert energy.read is not None
    assert energy.read() == pytest.approx(0.9)
    before = energy.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100000")
    assert energy.read() - before == pytest.approx(0.2)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    assert package_energy(tmp_path).read is None
    assert "RAPL" in package_energy(tmp_path).why_not
