from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.backbones import BACKBONES
from cellclf.data.datasets import DATASETS
from cellclf.errors import CellclfError, UnknownNameError
from cellclf.tables import Table


@dataclass(frozen=True)
class Row:
    name: str
    size_px: int = 0


def table(*names: str) -> Table[Row]:
    return Table("backbone", [Row(name) for name in names])


def test_rows_come_in_the_order_in_which_they_were_added() -> None:
    assert list(table("resnet50", "alexnet", "mobilenet")) == ["resnet50", "alexnet", "mobilenet"]


def test_adding_returns_the_row_and_finds_it_again() -> None:
    rows = table()
    row = rows.add(Row("resnet50", 224))
    assert rows.find("resnet50") is row
    assert rows["resnet50"] is row
    assert len(rows) == 1


def test_a_second_row_of_one_name_is_refused_and_the_first_stays() -> None:
    rows = Table("backbone", [Row("resnet50", 224)])
    with pytest.raises(ValueError, match="table of backbones has a row 'resnet50' already"):
        rows.add(Row("resnet50", 128))
    assert rows["resnet50"].size_px == 224


def test_an_unknown_name_is_a_user_error_that_spells_out_a_near_name_and_all_that_are_known() -> None:
    with pytest.raises(UnknownNameError) as caught:
        table("resnet50", "vgg16").find("resnet5")
    assert isinstance(caught.value, CellclfError)
    assert str(caught.value) == "unknown backbone 'resnet5'; did you mean resnet50? known: resnet50, vgg16"


def test_a_name_in_the_wrong_case_is_offered_in_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean resnet50"):
        table("resnet50", "vgg16").find("ResNet50")


def test_where_no_name_is_near_none_is_offered() -> None:
    with pytest.raises(UnknownNameError) as caught:
        table("resnet50").find("zzz")
    assert str(caught.value) == "unknown backbone 'zzz'; known: resnet50"


def test_a_missing_key_is_a_key_error_as_in_any_mapping() -> None:
    with pytest.raises(KeyError):
        table("resnet50")["vgg16"]
    assert table("resnet50").get("vgg16") is None
    assert "vgg16" not in table("resnet50")


@given(names=st.lists(st.text(min_size=1), unique=True), asked=st.text())
def test_find_gives_the_row_of_that_name_or_an_unknown_name_error(names: list[str], asked: str) -> None:
    rows = table(*names)
    if asked in names:
        assert rows.find(asked).name == asked
    else:
        with pytest.raises(UnknownNameError):
            rows.find(asked)


def test_the_real_tables_are_keyed_by_their_rows_names() -> None:
    assert [row.name for row in BACKBONES.values()] == list(BACKBONES)
    assert [row.name for row in DATASETS.values()] == list(DATASETS)
