"""The rows against the sources' tables, typed a second time; a slip of one hand shows."""

from pathlib import Path

import pytest

from cellclf.errors import CellclfError, StudyError, UnknownNameError
from cellclf.studies.study import Published, read_study
from cellclf.studies.table import STUDIES, find_study

# backbone, hidden, learning rate, epochs, test accuracy, learning time in seconds
ROWS = {
    "A": [
        ("mobilenet", (8,), 5e-5, 30, 0.9936, 1530.70),
        ("inceptionv3", (8,), 5e-5, 30, 0.9984, 2518.52),
        ("xception", (8,), 1e-4, 30, 0.9992, 4484.08),
        ("resnet50", (16,), 1e-5, 30, 0.9976, 3444.58),
    ],
    "B": [
        ("mobilenet", (8,), 1e-5, 30, 0.9920, 1239.37),
        ("mobilenet", (16,), 1e-5, 30, 0.9904, 1172.32),
        ("mobilenet", (32,), 1e-5, 30, 0.9900, 1248.26),
        ("mobilenet", (8, 8), 1e-5, 30, 0.7804, 1251.24),
        ("mobilenet", (8, 8, 8), 1e-5, 30, 0.4764, 1192.12),
        ("mobilenet", (8,), 5e-5, 30, 0.9936, 1530.70),
        ("mobilenet", (8,), 1e-4, 30, 0.9836, 739.49),
    ],
    "C": [
        ("mobilenet", (16, 16), 1e-5, 30, 0.9769, 2023.23),
        ("inceptionv3", (16, 16), 1e-5, 30, 0.9556, 1199.70),
        ("xception", (16, 16), 1e-5, 30, 0.9912, 3478.33),
        ("resnet50", (16, 16), 1e-5, 30, 0.9960, 3284.54),
        ("vgg16", (16, 16), 1e-5, 30, 0.9944, 3610.59),
    ],
    "D": [
        ("mobilenet", (16,), 2e-5, 40, 0.7933, 1564.70),
        ("mobilenet", (16,), 1e-7, 80, 0.9923, None),
        ("resnet50", (16,), 1e-5, 50, 0.9744, 1728.60),
    ],
    "E": [
        ("mobilenet", (8,), 1e-5, 30, 0.9726, 2315.14),
        ("mobilenet", (16,), 1e-5, 30, None, 1703.51),
        ("mobilenet", (32,), 1e-5, 30, 0.9795, 1722.61),
        ("mobilenet", (8, 8), 1e-5, 30, 0.9803, 1819.74),
        ("mobilenet", (8, 8, 8), 1e-5, 30, 0.9650, 1692.71),
        ("mobilenet", (8,), 5e-5, 30, 0.9821, 1607.90),
        ("mobilenet", (8,), 1e-4, 30, 0.9786, 1582.64),
    ],
}


@pytest.mark.parametrize("letter", ROWS)
def test_a_published_study_has_the_sources_rows(letter: str) -> None:
    study = find_study(letter)
    rows = []
    for variation in study.variations:
        recipe, published = study.recipe(variation, protocol="random", seed=0), variation.published
        assert published is not None
        seconds = published.learning_time_s
        clock = None if seconds is None else round(seconds, 2)
        rows.append((recipe.backbone, recipe.hidden, recipe.learning_rate, recipe.epochs, published.test_accuracy, clock))
    assert rows == ROWS[letter]


def test_every_published_study_is_split_as_published_first_and_honestly_next() -> None:
    assert {study.letter for study in STUDIES.values()} == set("ABCDE")
    for study in STUDIES.values():
        assert study.protocols == ("random", "official")
        recipe = study.recipe(study.variations[0], protocol="random", seed=3)
        assert (recipe.data.fractions, recipe.dropout, recipe.freeze, recipe.schedule, recipe.seed) == (
            (0.64, 0.16, 0.20),
            0.5,
            "none",
            "constant",
            3,
        )


def test_only_study_c_stops_early() -> None:
    patience = {study.letter: study.recipe(study.variations[0], protocol=None, seed=0).patience for study in STUDIES.values()}
    assert patience == {"A": 0, "B": 0, "C": 5, "D": 0, "E": 0}


def test_a_learning_time_is_a_clock_time() -> None:
    assert Published(learning_time="1:14:44.08").learning_time_s == pytest.approx(4484.08)
    assert Published().learning_time_s is None
    with pytest.raises(ValueError, match="learning_time"):
        Published(learning_time="702825")


def test_a_study_is_found_by_name_letter_and_near_names_are_offered() -> None:
    assert find_study("e") is find_study("chest-mobilenet") is STUDIES["chest-mobilenet"]
    with pytest.raises(UnknownNameError, match="did you mean blood-mobilenet"):
        find_study("blood-mobilnet")


TOML = """
name = "mine"
title = "Mine"
data = "sample"
factors = ["hidden"]
[common]
epochs = 2
[[variations]]
name = "one"
title = "One"
backbone = "mobilenet025"
choices = {hidden = [8]}
"""


def test_a_users_study_is_a_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TOML, encoding="utf-8")
    study = find_study(str(file))
    recipe = study.recipe(study.variations[0], protocol="grouped", seed=1)
    assert (study.name, recipe.hidden, recipe.epochs, recipe.data.data, recipe.data.protocol) == ("mine", (8,), 2, "sample", "grouped")


def test_a_users_study_is_a_python_row(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from cellclf.studies.study import Study, Variation\n"
        "rows = (Variation(name='a', title='A', backbone='vgg16'),)\n"
        "STUDY = Study(name='mine', title='Mine', data='sample', factors=('backbone',), variations=rows)\n",
        encoding="utf-8",
    )
    assert find_study(str(file)).variations[0].backbone == "vgg16"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('factors = ["hidden"]', 'factors = ["colour"]', "colour is no field of a recipe"),
        ('backbone = "mobilenet025"', 'backbone = "mobilnet"', "unknown backbone 'mobilnet'"),
        ("choices = {hidden = [8]}", "choices = {hiden = [8]}", "hiden"),
        ("choices = {hidden = [8]}", "choices = {seed = 3}", "seed cannot stand among"),
        ('name = "one"', 'name = "One!"', "variations.0.name"),
        ("[common]", "[[questions]]\ntext='?'\nfactor='hidden'\nvariations=['one','two']\n[common]", "names two, which is no variation"),
        ("title", "= broken", "cannot be read"),
    ],
)
def test_a_wrong_study_is_refused_with_its_field(tmp_path: Path, before: str, after: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TOML.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(CellclfError, match=said):
        read_study(file)


def test_two_variations_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TOML + TOML[TOML.index("[[variations]]") :], encoding="utf-8")
    with pytest.raises(StudyError, match="two variations are named one"):
        read_study(file)


@pytest.mark.parametrize("name", ["missing.toml", "missing.py"])
def test_a_study_file_that_is_not_there_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        find_study(str(tmp_path / name))


def test_a_python_file_without_a_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("STUDY = 3\n", encoding="utf-8")
    with pytest.raises(StudyError, match="sets no STUDY"):
        find_study(str(tmp_path / "x.py"))
