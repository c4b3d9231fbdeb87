import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.data.manifest import SPLITS, Entry, Leak, Manifest, Split, read_manifest
from cellclf.errors import StoredFileError

HEADER = "path,sha256,label,group,split\n"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
ENTRIES = st.lists(
    st.builds(
        Entry,
        path=TEXT.filter(bool),
        sha256=st.text("0123456789abcdef", min_size=8, max_size=8),
        label=TEXT,
        group=TEXT,
        split=st.sampled_from(SPLITS),
    ),
    max_size=8,
    unique_by=lambda entry: entry.path,
)


def entry(path: str, split: Split = "train", **fields: str) -> Entry:
    return Entry(path, fields.get("sha256", hashlib.sha256(path.encode()).hexdigest()), fields.get("label", "A"), fields.get("group", ""), split)


def manifest(*entries: Entry) -> Manifest:
    return Manifest(Path("/images"), entries)


THREE = manifest(entry("b.png", label="B"), entry("a.png", "test", group="g1"), entry("c.png", "test", group="g1"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifest") / "manifest.csv"


# The fingerprint


@given(entries=ENTRIES, data=st.data())
def test_the_fingerprint_depends_neither_on_the_order_nor_on_the_root(entries: list[Entry], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(entries))
    assert Manifest(Path("/elsewhere"), tuple(shuffled)).fingerprint == manifest(*entries).fingerprint


@given(entries=ENTRIES.filter(bool), data=st.data())
def test_the_fingerprint_changes_with_any_field_of_any_entry(entries: list[Entry], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(["path", "sha256", "label", "group", "split"]))
    changes: dict[str, Any] = {field: "validation" if entries[number].split == "train" else "train"}
    if field != "split":
        changes[field] = getattr(entries[number], field) + "x"
    changed = [*entries[:number], replace(entries[number], **changes), *entries[number + 1 :]]
    assert manifest(*changed).fingerprint != manifest(*entries).fingerprint


@given(entries=ENTRIES.filter(bool))
def test_the_fingerprint_changes_where_an_entry_is_left_out(entries: list[Entry]) -> None:
    assert manifest(*entries[1:]).fingerprint != manifest(*entries).fingerprint


def test_a_fingerprint_is_the_same_in_every_version() -> None:
    rows = "".join(f"{e.path}\t{e.sha256}\t{e.label}\t{e.group}\t{e.split}\n" for e in sorted(THREE.entries, key=lambda e: e.path))
    assert THREE.fingerprint == hashlib.sha256(rows.encode()).hexdigest()


# What a manifest tells


def test_labels_are_sorted_whatever_order_the_images_have() -> None:
    assert THREE.labels == ("A", "B")


def test_a_split_keeps_the_order_of_the_manifest() -> None:
    assert [e.path for e in THREE.split("test")] == ["a.png", "c.png"]
    assert THREE.split("validation") == ()


def test_counts_are_images_a_label() -> None:
    assert THREE.counts("test") == {"A": 2}
    assert THREE.counts("train") == {"B": 1}


def test_an_image_of_unknown_group_is_a_group_of_its_own_by_content() -> None:
    assert THREE.group_keys("test") == ["g1", "g1"]
    assert THREE.group_keys("train") == [hashlib.sha256(b"b.png").hexdigest()]


def test_paths_begin_at_the_root_unless_they_are_absolute() -> None:
    assert THREE.file(entry("TRAIN/A/1.png")) == Path("/images/TRAIN/A/1.png")
    assert THREE.file(entry("/other/1.png")) == Path("/other/1.png")


def test_a_leak_is_told_in_one_line_that_begins_with_its_split() -> None:
    assert str(Leak(split="test", reason="why")) == "test LEAKS: why"


# Stored


@given(entries=ENTRIES)
def test_a_manifest_comes_back_from_its_file_as_it_was(place: Path, entries: list[Entry]) -> None:
    written = manifest(*entries)
    written.write(place)
    assert read_manifest(place, root=Path("/images")) == written


def test_a_name_with_a_carriage_return_comes_back(tmp_path: Path) -> None:
    written = manifest(entry("Icon\r.png"), entry("b.png"))
    written.write(tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv", root=Path("/images")) == written


def test_the_file_has_one_line_an_image_under_a_header(tmp_path: Path) -> None:
    manifest(entry("a,b.png", sha256="0f", group="g", label="A")).write(tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text() == HEADER + '"a,b.png",0f,A,g,train\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no manifest: its columns are not path, sha256, label, group, split"),
        ("path,label\na.png,A\n", "is no manifest"),
        ("path,sha256,label,split,group\n", "is no manifest"),
        (HEADER.replace("path", "file"), "is no manifest"),
        (HEADER + "a.png,00,A,,train\nb.png,00,A,,trai", "line 3: unknown split 'trai'"),
        (HEADER + "a.png,00,A,,TRAIN\n", "line 2: unknown split 'TRAIN'"),
        (HEADER + "a.png,00,A\n", "line 2: unknown split None"),
        (HEADER + '"a.png,00,A,,train\n', "line 2: unknown split None"),
    ],
    ids=["empty", "other columns", "other order", "other name", "cut", "case", "short row", "open quote"],
)
def test_a_broken_file_is_a_stored_file_error_that_says_where(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(StoredFileError, match=f"manifest.csv.*{reason}"):
        read_manifest(tmp_path / "manifest.csv", root=tmp_path)


@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_give_a_stored_file_error_and_nothing_else(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    with pytest.raises(StoredFileError):
        read_manifest(place, root=place.parent)


@given(tail=st.binary(min_size=1, max_size=60))
def test_arbitrary_rows_give_entries_of_known_splits_or_a_stored_file_error(place: Path, tail: bytes) -> None:
    place.write_bytes(HEADER.encode() + b"a.png,00,A,,train\n" + tail)
    try:
        entries = read_manifest(place, root=place.parent).entries
    except StoredFileError:
        return
    assert all(entry.split in SPLITS and None not in (entry.path, entry.sha256, entry.label, entry.group) for entry in entries)


def test_a_missing_file_is_a_stored_file_error(tmp_path: Path) -> None:
    with pytest.raises(StoredFileError, match=r"manifest\.csv cannot be read"):
        read_manifest(tmp_path / "manifest.csv", root=tmp_path)
