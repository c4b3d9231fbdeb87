import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from cellclf.data.audit.families import Copy
from cellclf.data.audit.inspect import audit, describe_map
from cellclf.data.audit.page import write_audit
from cellclf.data.prepare import DataRequest, list_images
from cellclf.errors import DataError
from tests.conftest import Completed
from tests.data.audit.making import augmented, copies, field, put_images


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six originals with four copies each; of the first two copies are in test, one of them under another label; one file twice, one cut short."""
    root = tmp_path_factory.mktemp("leaking")
    for seed in range(6):
        label = "AB"[seed % 2]
        put_images(root / "train" / label, copies(seed, 4), name=f"o{seed}")
    put_images(root / "test" / "A", [augmented(field(0), turn_deg=33), field(20)], name="t")
    put_images(root / "test" / "B", [augmented(field(0), turn_deg=200, mirror=True), field(21)], name="t")
    (root / "train" / "A" / "again.jpeg").write_bytes((root / "train" / "A" / "o0_000.jpeg").read_bytes())
    (root / "train" / "B" / "cut.jpeg").write_bytes((root / "train" / "B" / "o1_000.jpeg").read_bytes()[:300])
    return root


def test_families_crossings_conflicts_duplicates_and_broken_files_are_found(leaking: Path) -> None:
    found = audit(str(leaking)).audit
    assert found.files == 30
    assert [duplicate.paths for duplicate in found.duplicates] == [("train/A/again.jpeg", "train/A/o0_000.jpeg")]
    assert {crossing.kind for crossing in found.crossings} == {"copies of one field"}
    assert [crossing.images for crossing in found.crossings] == [{"test": 2, "train": 5}]
    assert [conflict.images for conflict in found.label_conflicts] == [{"A": 6, "B": 1}]
    assert [image.path for image in found.broken] == ["train/B/cut.jpeg"]
    assert "Truncated" in found.broken[0].reason
    assert found.families == 9  # six originals, two fields of the test set, and the broken file, of which nobody knows
    assert found.counts["train"] == {"A": 13, "B": 13}
    assert len(found.leaks) == 1
    assert found.leaks[0].startswith("1 families of copies are on both sides of the split")


def test_the_pairs_that_cross_the_split_are_shown_first(leaking: Path) -> None:
    pairs = audit(str(leaking)).audit.pairs
    assert pairs[0].why in ("one in train, one in test", "one in test, one in train")
    assert {Path(pairs[0].first).parts[0], Path(pairs[0].second).parts[0]} == {"train", "test"}


def test_a_split_without_a_label_counts_none_of_it(tmp_path: Path) -> None:
    put_images(tmp_path / "train" / "A", [field(0), field(1)])
    put_images(tmp_path / "train" / "B", [field(2)])
    put_images(tmp_path / "test" / "B", [field(3)])
    assert audit(str(tmp_path)).audit.counts == {"test": {"A": 0, "B": 1}, "train": {"A": 2, "B": 1}}


def test_a_pair_whose_file_is_gone_stands_without_pictures(tmp_path: Path) -> None:
    first, *_ = put_images(tmp_path / "in" / "A", copies(0, 2))
    put_images(tmp_path / "in" / "B", [field(5)])
    audited = audit(str(tmp_path / "in"))
    assert len(audited.audit.pairs) == 1
    first.unlink()
    page = write_audit(audited, tmp_path / "out").read_text(encoding="utf-8")
    assert "no picture" in page
    assert "data:image" not in page


def test_the_page_is_self_contained_and_the_groups_column_is_what_grouped_divides_by(leaking: Path, tmp_path: Path) -> None:
    audited = audit(str(leaking))
    page = write_audit(audited, tmp_path / "out").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 4 * len(audited.audit.pairs)
    assert page.count("the second laid on the first</div>") == len(audited.audit.pairs) > 4
    assert "http" not in page
    assert "copies of one field" in page
    with (tmp_path / "out" / "groups.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    of_first = {
        row["group"] for row in rows if "/o0_" in row["path"] or row["path"].endswith(("again.jpeg", "test/A/t_000.jpeg", "test/B/t_000.jpeg"))
    }
    assert len(of_first) == 1
    assert json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))["files"] == 30


def test_a_grouped_split_of_the_audits_groups_divides_no_family(tmp_path: Path) -> None:
    for seed in range(12):
        put_images(tmp_path / "in" / "AB"[seed % 2], copies(seed, 3), name=f"o{seed}")
    write_audit(audit(str(tmp_path / "in")), tmp_path / "out")
    manifest = list_images(DataRequest(data=str(tmp_path / "out" / "groups.csv"), protocol="grouped"), divided=True)
    sides: dict[str, set[str]] = {}
    for entry in manifest.entries:
        sides.setdefault(Path(entry.path).name.split("_")[0], set()).add(entry.split)
    assert len(sides) == 12
    assert all(len(splits) == 1 for splits in sides.values())


def test_nothing_is_said_where_there_is_nothing(tmp_path: Path) -> None:
    for split, seeds in (("train", range(8)), ("test", range(8, 12))):
        for seed in seeds:
            put_images(tmp_path / split / "AB"[seed % 2], [field(seed)], name=f"o{seed}")
    found = audit(str(tmp_path)).audit
    assert (found.families, found.copies, found.crossings, found.label_conflicts, found.duplicates, found.leaks) == (12, 0, (), (), (), ())
    assert found.shortcuts == ()  # six groups a label are too few to tell


def test_groups_that_cross_the_split_are_found_by_their_names(tmp_path: Path) -> None:
    for split, seeds in (("train", range(4)), ("test", range(4, 8))):
        for seed in seeds:
            put_images(tmp_path / split / "AB"[seed % 2], [field(seed)], name=f"patient{seed % 5}_{seed}")
    found = audit(str(tmp_path), group_rule=r"(patient\d)").audit
    assert {(crossing.kind, crossing.name) for crossing in found.crossings} == {("group", f"patient{number}") for number in (0, 1, 2)}
    assert found.leaks[0].startswith("3 groups (patients, slides)")


@pytest.mark.parametrize("dark", [False, True])
def test_brightness_is_a_shortcut_only_where_it_tells_the_label(tmp_path: Path, dark: bool) -> None:
    for seed in range(60):
        image = field(seed)
        shown = ImageEnhance.Brightness(image).enhance(0.6) if dark and seed % 2 else image
        put_images(tmp_path / "AB"[seed % 2], [shown], name=f"o{seed}")
    by_feature = {shortcut.feature: shortcut for shortcut in audit(str(tmp_path)).audit.shortcuts}
    assert by_feature["brightness"].suspicious is dark
    assert by_feature["image size"].balanced_accuracy == pytest.approx(0.5)
    assert not by_feature["JPEG quality"].suspicious


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (((1, 0, 0), (0, 1, 0)), "the same place"),
        (((1, 0, 9), (0, 1, 0)), "shifted"),
        (((0, -1, 60), (1, 0, 0)), "turned by 90°"),
        (((-1, 0, 60), (0, 1, 0)), "mirrored"),
        (((1.2, 0, 0), (0, 1.2, 0)), "scaled by 1.20"),
    ],
)
def test_a_map_is_told_in_words(matrix: tuple[tuple[float, float, float], tuple[float, float, float]], said: str) -> None:
    assert describe_map(Copy("a", "b", 9, 0.99, 1.0, matrix)) == said


def test_one_file_is_nothing_to_compare(tmp_path: Path) -> None:
    put_images(tmp_path / "A", [field(0)])
    with pytest.raises(DataError, match="1 readable files"):
        audit(str(tmp_path))


def test_the_verb_writes_reports_and_is_strict_when_asked(leaking: Path, tmp_path: Path, cli: Callable[..., Completed]) -> None:
    done = cli("data", "audit", leaking, "--output", "out")
    assert done.code == 0, done.err
    assert "LEAKS: 1 families of copies are on both sides" in done.out
    assert (tmp_path / "out" / "index.html").exists()
    strict = cli("data", "audit", leaking, "--output", "out", "--strict", "--json")
    assert strict.code == 1
    assert strict.err.strip().splitlines()[-1].startswith(f"cellclf: the split of {leaking.name} leaks: 1 families")
    assert json.loads(strict.out)["families"] == 9
    nothing = cli("data", "audit", tmp_path / "none")
    assert (nothing.code, len(nothing.err.strip().splitlines())) == (1, 1)


def test_images_of_one_colour_are_no_copies_of_one_another(tmp_path: Path) -> None:
    put_images(tmp_path / "A", [Image.new("RGB", (160, 120), (shade, shade, shade)) for shade in (90, 120, 150)])
    put_images(tmp_path / "B", [field(3)])
    assert audit(str(tmp_path)).audit.copies == 0
