import re

import pytest

from cellclf import errors
from cellclf.errors import CellclfError, MissingExtraError

_ROW = re.compile(r"^((?:│   |    )*)(?:[├└]── )?(\w+Error)\b")


def classes() -> dict[str, type[Exception]]:
    return {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def drawn_parents() -> dict[str, str]:
    """Parent by name, as the docstring's tree draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _ROW.match(line)
        if match is None:
            continue
        depth = len(match.group(1)) // 4 + ("── " in line)
        path[depth:] = [match.group(2)]
        parents[match.group(2)] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_real_tree() -> None:
    assert drawn_parents() == {name: kind.__bases__[0].__name__ for name, kind in classes().items()}


def test_each_error_has_one_base() -> None:
    assert all(len(kind.__bases__) == 1 for kind in classes().values())


def test_all_names_every_error_and_nothing_else() -> None:
    assert sorted(classes()) == list(errors.__all__)


def test_every_error_is_caught_as_the_one_at_the_root() -> None:
    assert all(issubclass(kind, CellclfError) for kind in classes().values())


def test_every_error_says_in_a_sentence_what_it_is_for() -> None:
    assert all(kind.__doc__ and kind.__doc__.endswith(".") for kind in classes().values())


def test_a_missing_extra_names_the_exact_command() -> None:
    with pytest.raises(
        CellclfError, match=re.escape("training needs packages that are not installed; install them with: pip install 'cellclf[train]'")
    ):
        raise MissingExtraError("training", "train")
