import hashlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.storage import cache_folder, locked, new_file, new_folder, sha256_of_file, write_csv


class BrokenError(Exception):
    pass


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_word_the_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("CELLCLF_CACHE")
    else:
        monkeypatch.setenv("CELLCLF_CACHE", value)
    assert cache_folder() == tmp_path / ".cache" / "cellclf"


def test_a_new_file_is_there_only_when_its_writer_has_finished(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "report.json"
    with new_file(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert names_in(target.parent) == ["report.json"]


def test_the_temporary_name_is_hidden_in_the_same_folder_and_keeps_the_suffixes(tmp_path: Path) -> None:
    with new_file(tmp_path / "model.weights.h5") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".weights.h5")
        temporary.touch()


def test_a_reader_sees_the_old_content_until_the_new_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with new_file(target) as temporary:
        temporary.write_text("new, and longer")
        assert target.read_text() == "old"
    assert target.read_text() == "new, and longer"


def test_replacing_leaves_nothing_of_a_longer_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("a long old text")
    with new_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BrokenError), new_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise BrokenError
    assert names_in(tmp_path) == []


def test_a_failing_writer_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(BrokenError), new_file(target) as temporary:
        temporary.write_text("half")
        raise BrokenError
    assert names_in(tmp_path) == ["a.txt"]
    assert target.read_text() == "old"


def test_a_writer_that_writes_no_file_is_an_error_and_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError) as raised, new_file(target):
        pass
    assert target.read_text() == "old"
    assert raised.value.filename == str(target)  # not the temporary name, which the user never typed


def test_an_error_about_another_file_names_that_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, new_file(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_bytes()
    assert raised.value.filename == str(tmp_path / "other.txt")


def test_a_folder_in_a_new_files_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError), new_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert names_in(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    with new_file(tmp_path / "new.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "new.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    target, start = tmp_path / "a.txt", Barrier(8)

    def write(number: int) -> None:
        with new_file(target) as temporary:
            temporary.write_text(str(number) * 1000)
            start.wait()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    text = target.read_text()
    assert text == text[0] * 1000
    assert names_in(tmp_path) == ["a.txt"]


def test_a_new_folder_is_there_only_when_it_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "cache"
    with new_folder(target) as temporary:
        (temporary / "pixels.npy").write_text("pixels")
        assert not target.exists()
    assert names_in(target) == ["pixels.npy"]
    assert names_in(target.parent) == ["cache"]


def test_others_may_read_a_new_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "cache"):
        pass
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o755


def test_a_failing_writer_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BrokenError), new_folder(tmp_path / "cache") as temporary:
        (temporary / "half").write_text("half")
        raise BrokenError
    assert names_in(tmp_path) == []


def test_where_another_made_the_folder_first_theirs_stays_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    with new_folder(target) as temporary:
        (temporary / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()
    assert names_in(target) == ["theirs"]
    assert names_in(tmp_path) == ["cache"]


def test_a_file_in_the_folders_place_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError), new_folder(tmp_path / "cache"):
        pass
    assert names_in(tmp_path) == ["cache"]
    assert (tmp_path / "cache").read_text() == "a file"


def test_many_makers_of_one_folder_leave_one_whole_folder(tmp_path: Path) -> None:
    target, start = tmp_path / "cache", Barrier(8)

    def make(number: int) -> None:
        with new_folder(target) as temporary:
            (temporary / "first").write_text(str(number))
            (temporary / "second").write_text(str(number))
            start.wait()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert (target / "first").read_text() == (target / "second").read_text()
    assert names_in(tmp_path) == ["cache"]


@given(content=st.binary())
def test_the_hash_of_a_file_is_the_sha256_of_its_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed.bin"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_a_csv_file_has_commas_a_header_line_and_newlines_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("name", "count"), [("a,b", 1), ('say "x"', 2), ("é", 0.5)])
    assert (tmp_path / "a.csv").read_bytes() == 'name,count\n"a,b",1\n"say ""x""",2\né,0.5\n'.encode()


def test_rows_that_fail_half_way_leave_no_csv_file(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str]]:
        yield ("first",)
        raise BrokenError

    with pytest.raises(BrokenError):
        write_csv(tmp_path / "a.csv", ("name",), rows())
    assert names_in(tmp_path) == []


def test_a_write_into_a_folder_that_is_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with pytest.raises(OSError), new_file(tmp_path / "plain" / "a.txt"):
        pass
    assert names_in(tmp_path) == ["plain"]


def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs" / ".a.lock"
    with locked(path) as first:
        with locked(path) as second:
            assert (first, second) == (True, False)
        with locked(path) as third:
            assert not third, "who was refused took nothing away"
    with locked(path) as again:
        assert again
    assert names_in(tmp_path) == []
    with locked(path):
        (tmp_path / "runs" / "a").mkdir()
    assert names_in(tmp_path / "runs") == ["a"]


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / ".a.lock"
    script = (
        "import sys, time, pathlib; from cellclf.storage import locked\n"
        "with locked(pathlib.Path(sys.argv[1])) as free: print(free, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    with locked(path) as free:
        assert not free
    holder.kill()
    holder.communicate()
    with locked(path) as free:
        assert free
