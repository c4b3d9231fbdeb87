import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from cellclf.data.cache import PixelCache, hash_files, images_folder, open_cache
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.errors import DataError
from cellclf.storage import sha256_of_file
from tests.data.making import put

HEIGHT, WIDTH = 5, 7


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


def by_content(files: Iterable[Path]) -> dict[str, Path]:
    return {sha256_of_file(file): file for file in files}


def some(folder: Path, count: int = 5) -> dict[str, Path]:
    return by_content(put(folder / f"{number}.png") for number in range(count))


def opened(file_of: dict[str, Path]) -> PixelCache:
    return open_cache(file_of, View(HEIGHT, WIDTH))


def entries() -> list[Path]:
    """What is in the cache folder, hidden or not."""
    return sorted(images_folder().iterdir()) if images_folder().exists() else []


# Hashes


def test_files_are_hashed_in_their_order(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{number}.png") for number in range(70)]
    assert hash_files(files) == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_a_file_that_cannot_be_read_has_no_hash_and_the_others_have_theirs(tmp_path: Path) -> None:
    first, last = put(tmp_path / "a.png"), put(tmp_path / "b.png")
    assert hash_files([first, tmp_path / "gone.png", tmp_path, last]) == [sha256_of_file(first), None, None, sha256_of_file(last)]


def test_hashing_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    hash_files([put(tmp_path / "a.png"), put(tmp_path / "b.png")], on_progress=lambda *stage: told.append(stage))
    assert told == [("reading", 2, 2)]
    assert hash_files([]) == []


# Pixels


def test_the_cache_holds_what_the_decoder_gives(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images", 40)
    cache = opened(file_of)
    assert cache.pixels.shape == (40, HEIGHT, WIDTH, 3)
    assert cache.pixels.dtype == np.uint8
    for content, path in file_of.items():
        np.testing.assert_array_equal(cache.pixels[cache.row_of[content]], decode_file(path, View(HEIGHT, WIDTH)))


def test_rows_are_found_by_content_in_the_order_asked_for(tmp_path: Path) -> None:
    cache = opened(some(tmp_path / "images"))
    contents = sorted(cache.row_of, reverse=True)
    assert cache.rows([*contents, contents[0]]).tolist() == [cache.row_of[content] for content in [*contents, contents[0]]]
    with pytest.raises(KeyError):
        cache.rows(["not there"])


def test_images_are_decoded_once_and_the_files_are_not_needed_again(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images")
    first = np.array(opened(file_of).pixels)
    shutil.rmtree(tmp_path / "images")
    np.testing.assert_array_equal(opened(file_of).pixels, first)


def test_the_cache_is_keyed_by_content_and_not_by_name_or_order(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images")
    opened(file_of)
    elsewhere = {content: tmp_path / "nowhere" / path.name for content, path in reversed(file_of.items())}
    assert opened(elsewhere).row_of == opened(file_of).row_of
    assert len(entries()) == 1


def test_another_size_or_another_set_of_images_is_another_entry(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images")
    opened(file_of)
    open_cache(file_of, View(WIDTH, HEIGHT))
    opened(dict(list(file_of.items())[:-1]))
    assert len(entries()) == 3


def test_the_pixels_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        opened(some(tmp_path / "images")).pixels[0] = 0


def test_a_file_that_changed_after_it_was_hashed_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images")
    put(tmp_path / "images" / "3.png", seed="another picture")
    with pytest.raises(DataError, match=r"images/3\.png is no longer the file that the manifest names: its content changed"):
        opened(file_of)
    assert entries() == []


def test_a_file_that_is_gone_is_an_os_error_and_nothing_is_left(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images")
    (tmp_path / "images" / "3.png").unlink()
    with pytest.raises(FileNotFoundError):
        opened(file_of)
    assert entries() == []


def test_images_that_cannot_be_decoded_are_recorded_with_their_reason_and_the_others_kept(tmp_path: Path) -> None:
    sound, empty, cut = (put(tmp_path / f"{name}.png") for name in ("sound", "empty", "cut"))
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:60])
    file_of = by_content([sound, empty, cut])
    for cache in (opened(file_of), opened(file_of)):
        assert set(cache.errors) == {sha256_of_file(empty), sha256_of_file(cut)}
        assert cache.errors[sha256_of_file(empty)] == "empty file"
        expected = decode_file(sound, View(HEIGHT, WIDTH))
        np.testing.assert_array_equal(cache.pixels[cache.row_of[sha256_of_file(sound)]], expected)


def test_no_images_are_an_empty_cache() -> None:
    assert opened({}).pixels.shape == (0, HEIGHT, WIDTH, 3)


def test_decoding_tells_how_far_it_is_and_reopening_tells_nothing(tmp_path: Path) -> None:
    file_of, told = some(tmp_path / "images", 40), list[tuple[str, int, int]]()
    open_cache(file_of, View(4, 4), on_progress=lambda *stage: told.append(stage))
    assert told == [("decoding", 32, 40), ("decoding", 40, 40)]
    open_cache(file_of, View(4, 4), on_progress=lambda *stage: told.append(stage))
    assert len(told) == 2


def test_more_pixels_than_the_disk_holds_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    file_of = some(tmp_path / "images", 2)
    with pytest.raises(DataError, match=r"decoded images need .* GB in .* but .* GB are free; set CELLCLF_CACHE to a larger disk"):
        open_cache(file_of, View(10_000_000, 10_000_000))
    assert entries() == []


def test_what_a_killed_build_left_behind_is_removed_after_a_day_and_a_running_one_is_not(tmp_path: Path) -> None:
    old, new = images_folder() / ".old-build", images_folder() / ".new-build"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "pixels.npy").touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    opened(some(tmp_path / "images"))
    assert not old.exists()
    assert new.exists()
