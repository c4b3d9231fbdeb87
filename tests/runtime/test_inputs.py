import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellclf.errors import DataError
from cellclf.runtime.inputs import expand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with some files by name; what is inside them does not matter here."""
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/er/c.jpeg", "deep/a.bmp", "[x].png", "two words.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_come_in_the_order_they_were_named(folder: Path) -> None:
    names = ["b.png", str(folder / "a.JPG"), "notes.txt", "b.png"]
    assert list(expand(names)) == names


@pytest.mark.usefixtures("folder")
def test_a_folder_gives_the_images_below_it_sorted() -> None:
    assert list(expand(["deep"])) == ["deep/a.bmp", "deep/er/c.jpeg"]


@pytest.mark.usefixtures("folder")
def test_a_folder_gives_no_hidden_file_and_nothing_that_is_no_image() -> None:
    assert [path for path in expand(["."]) if not path.startswith("deep")] == ["[x].png", "a.JPG", "b.png", "two words.png"]


def test_a_folder_gives_nothing_from_hidden_folders(folder: Path) -> None:
    (folder / "deep" / ".thumbs").mkdir()
    (folder / "deep" / ".thumbs" / "t.png").touch()
    assert list(expand(["deep"])) == ["deep/a.bmp", "deep/er/c.jpeg"]


def test_a_link_to_nothing_becomes_a_record_of_its_own(folder: Path) -> None:
    (folder / "deep" / "gone.png").symlink_to(folder / "nowhere.png")
    assert list(expand(["deep"])) == ["deep/a.bmp", "deep/er/c.jpeg", "deep/gone.png"]


def test_names_on_standard_input_may_end_with_a_nul_as_find_print0_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.png\0two words.png\0b\nc.png\n"))
    assert list(expand(["-"])) == ["a.png", "two words.png", "b", "c.png"]


def test_a_folders_order_does_not_depend_on_the_order_of_creation(tmp_path: Path) -> None:
    for name in ("c.png", "a.png", "b.png"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in expand([str(tmp_path)])] == ["a.png", "b.png", "c.png"]


@pytest.mark.usefixtures("folder")
def test_an_empty_folder_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="empty"):
        list(expand(["empty"]))


@pytest.mark.usefixtures("folder")
def test_a_glob_gives_its_files_sorted_without_hidden_ones() -> None:
    assert list(expand(["*.png"])) == ["[x].png", "b.png", "two words.png"]
    assert list(expand(["?.[pJ]*"])) == ["a.JPG", "b.png"]


@pytest.mark.usefixtures("folder")
def test_two_stars_reach_sub_folders() -> None:
    assert list(expand(["deep/**/*.jpeg"])) == ["deep/er/c.jpeg"]


@pytest.mark.usefixtures("folder")
def test_a_glob_gives_what_the_shell_would_make_of_it_folders_too() -> None:
    assert list(expand(["deep/*"])) == ["deep/a.bmp", "deep/er/c.jpeg"]


@pytest.mark.usefixtures("folder")
def test_a_glob_without_a_match_is_an_error_that_quotes_it() -> None:
    with pytest.raises(DataError, match=r"'\*\.gif'"):
        list(expand(["*.gif"]))


@pytest.mark.usefixtures("folder")
def test_a_glob_that_matches_folders_only_is_an_error_or_gives_their_images_but_never_nothing() -> None:
    try:
        found = list(expand(["dee*"]))
    except DataError as error:
        assert "dee*" in str(error)
    else:
        assert found == ["deep/a.bmp", "deep/er/c.jpeg"]


@pytest.mark.usefixtures("folder")
def test_a_file_whose_name_looks_like_a_glob_is_taken_as_it_is() -> None:
    assert list(expand(["[x].png"])) == ["[x].png"]


@pytest.mark.usefixtures("folder")
def test_a_missing_file_is_passed_on() -> None:
    assert list(expand(["nowhere/z.png", "b.png"])) == ["nowhere/z.png", "b.png"]


@pytest.mark.usefixtures("folder")
def test_a_name_too_long_for_the_file_system_is_passed_on() -> None:
    assert list(expand(["x" * 5000, "b.png"])) == ["x" * 5000, "b.png"]


def test_a_dash_reads_one_path_a_line_and_skips_empty_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.png\n\nwith space.png\r\n[x].png\nlast.png"))
    assert list(expand(["-"])) == ["a.png", "with space.png", "[x].png", "last.png"]


@pytest.mark.usefixtures("folder")
def test_a_dash_stands_among_other_names_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from-stdin.png\n"))
    assert list(expand(["b.png", "-", "deep"])) == ["b.png", "from-stdin.png", "deep/a.bmp", "deep/er/c.jpeg"]


def test_an_endless_list_on_stdin_is_read_as_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> Iterator[str]:
        yield "one.png\n"
        yield "two.png\n"
        raise AssertionError("read too far")

    monkeypatch.setattr("sys.stdin", lines())
    paths = expand(["-"])
    assert [next(paths), next(paths)] == ["one.png", "two.png"]
