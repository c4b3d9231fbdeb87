from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cellclf.data.splits import PROTOCOLS, deal, fold_sides, merge_identical
from cellclf.errors import DataError

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE")
SEEDS = st.integers(0, 2**32)
SHARES = st.dictionaries(st.sampled_from(["train", "validation", "test", "1", "2"]), st.floats(0.05, 1.0), min_size=1)

Groups = dict[str, Counter[str]]


@st.composite
def groups_of_one_label(draw: st.DrawFn, *, least: int = 0) -> Groups:
    """As images of patients usually are: each group shows one label."""
    names = draw(st.lists(st.text("abc0123é", min_size=1, max_size=6), min_size=least, max_size=30, unique=True))
    return {name: Counter({draw(st.sampled_from(LABELS)): draw(st.integers(1, 12))}) for name in names}


@st.composite
def mixed_groups(draw: st.DrawFn) -> Groups:
    names = draw(st.lists(st.text("abc0123", min_size=1, max_size=6), max_size=20, unique=True))
    counts = st.dictionaries(st.sampled_from(LABELS), st.integers(1, 12), min_size=1)
    return {name: Counter(draw(counts)) for name in names}


ANY_GROUPS = st.one_of(groups_of_one_label(), mixed_groups())


def images(groups: Groups, sides: dict[str, str]) -> dict[str, Counter[str]]:
    """Images a label on each side."""
    given: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, counts in groups.items():
        given[sides[group]].update(counts)
    return given


@given(groups=ANY_GROUPS, shares=SHARES, seed=SEEDS)
def test_every_group_has_exactly_one_side_and_it_is_one_of_those_asked_for(groups: Groups, shares: dict[str, float], seed: int) -> None:
    sides = deal(groups, shares, seed=seed)
    assert sides.keys() == groups.keys()
    assert set(sides.values()) <= set(shares)


@given(groups=ANY_GROUPS, shares=SHARES, seed=SEEDS)
def test_no_image_is_lost_or_doubled(groups: Groups, shares: dict[str, float], seed: int) -> None:
    given_out = images(groups, deal(groups, shares, seed=seed))
    assert sum(given_out.values(), Counter()) == sum(groups.values(), Counter())


@given(groups=ANY_GROUPS, shares=SHARES, seed=SEEDS, data=st.data())
def test_the_result_depends_on_the_seed_and_not_on_the_order(groups: Groups, shares: dict[str, float], seed: int, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(groups.items()))))
    turned = dict(data.draw(st.permutations(list(shares.items()))))
    assert deal(shuffled, turned, seed=seed) == deal(groups, shares, seed=seed)


@given(groups=groups_of_one_label(), shares=SHARES, seed=SEEDS)
def test_no_side_gets_more_of_a_label_than_its_share_and_one_group(groups: Groups, shares: dict[str, float], seed: int) -> None:
    given_out, total = images(groups, deal(groups, shares, seed=seed)), sum(groups.values(), Counter())
    for label in total:
        largest = max(counts[label] for counts in groups.values())
        for side, share in shares.items():
            assert given_out[side][label] <= total[label] * share / sum(shares.values()) + largest + 1e-6


@given(groups=groups_of_one_label(), shares=SHARES, seed=SEEDS)
def test_no_side_lacks_more_of_a_label_than_one_group_for_each_other_side(groups: Groups, shares: dict[str, float], seed: int) -> None:
    given_out, total = images(groups, deal(groups, shares, seed=seed)), sum(groups.values(), Counter())
    for label in total:
        slack = max(counts[label] for counts in groups.values()) * (len(shares) - 1)
        for side, share in shares.items():
            assert given_out[side][label] >= total[label] * share / sum(shares.values()) - slack - 1e-6


@given(groups=groups_of_one_label(least=1), shares=SHARES, seed=SEEDS)
def test_a_label_with_a_group_for_each_side_is_on_each_side(groups: Groups, shares: dict[str, float], seed: int) -> None:
    given_out = images(groups, deal(groups, shares, seed=seed))
    of_label = Counter(label for counts in groups.values() for label in counts)
    for label, number in of_label.items():
        assert sum(bool(given_out[side][label]) for side in shares) == min(number, len(shares))


def test_many_equal_groups_are_shared_out_exactly() -> None:
    groups = {f"patient {number}": Counter({"A": 4}) for number in range(100)}
    shared = Counter(deal(groups, {"train": 0.64, "validation": 0.16, "test": 0.20}, seed=3).values())
    assert shared == {"train": 64, "validation": 16, "test": 20}


def test_another_seed_gives_another_division() -> None:
    groups = {f"patient {number}": Counter({"A": 1}) for number in range(40)}
    divisions = {tuple(deal(groups, {"train": 0.5, "test": 0.5}, seed=seed).items()) for seed in range(10)}
    assert len(divisions) == 10


def test_a_division_is_the_same_on_every_machine_and_in_every_version() -> None:
    groups = {f"p{number}": Counter({"A" if number % 2 else "B": 1 + number % 3}) for number in range(12)}
    sides = deal(groups, {"train": 0.64, "validation": 0.16, "test": 0.2}, seed=0)
    assert {group for group, side in sides.items() if side == "validation"} == {"p9", "p7", "p2"}
    assert {group for group, side in sides.items() if side == "test"} == {"p8", "p11"}


def test_nothing_is_dealt_to_nobody() -> None:
    assert deal({}, {"train": 0.5, "test": 0.5}, seed=0) == {}


# Folds


@given(folds=st.integers(3, 12))
def test_each_fold_is_the_test_set_exactly_once_and_validates_exactly_once(folds: int) -> None:
    divisions = [fold_sides(fold, folds) for fold in range(1, folds + 1)]
    for role in ("test", "validation"):
        assert sorted(name for sides in divisions for name, side in sides.items() if side == role) == sorted(map(str, range(1, folds + 1)))


@given(folds=st.integers(3, 12), data=st.data())
def test_in_a_division_one_fold_tests_another_validates_and_all_others_train(folds: int, data: st.DataObject) -> None:
    fold = data.draw(st.integers(1, folds))
    sides = fold_sides(fold, folds)
    assert Counter(sides.values()) == {"test": 1, "validation": 1, "train": folds - 2}
    assert sides[str(fold)] == "test"


@pytest.mark.parametrize(("fold", "folds"), [(0, 5), (6, 5), (-1, 5), (1, 2), (1, 1), (1, 0)])
def test_a_fold_that_cannot_be_is_an_error_that_says_what_can(fold: int, folds: int) -> None:
    with pytest.raises(DataError, match=f"fold {fold}/{folds} cannot be: give K/N with N at least 3 and K from 1 to N"):
        fold_sides(fold, folds)


# Files that belong together

FILES = st.lists(st.tuples(st.sampled_from(["", "", "g1", "g2", "g3", "g4"]), st.sampled_from("stuvwxyz")), max_size=14)


def joined(files: list[tuple[str, str]]) -> list[int]:
    """The plain way: spread the smallest number among files that share a group or a content, until nothing changes."""
    numbers = list(range(len(files)))
    for _ in files:
        for i, (group, content) in enumerate(files):
            near = [n for n, (g, c) in zip(numbers, files, strict=True) if c == content or (group and g == group)]
            numbers[i] = min(near)
    return numbers


def pattern(keys: list[str] | list[int]) -> list[int]:
    """Which files have equal keys, whatever the keys are called."""
    return [keys.index(key) for key in keys]  # type: ignore[arg-type]


@given(files=FILES)
def test_files_of_one_group_or_one_content_have_one_key_and_no_others(files: list[tuple[str, str]]) -> None:
    keys = merge_identical([group for group, _ in files], [content for _, content in files])
    assert pattern(keys) == pattern(joined(files))


@given(files=FILES, data=st.data())
def test_the_keys_do_not_depend_on_the_order(files: list[tuple[str, str]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(files))))
    keys = merge_identical([group for group, _ in files], [content for _, content in files])
    turned = merge_identical([files[i][0] for i in order], [files[i][1] for i in order])
    assert turned == [keys[i] for i in order]


def test_identical_files_join_their_groups_transitively() -> None:
    keys = merge_identical(["g1", "g2", "g2", "g3", "g4"], ["s", "s", "t", "t", "u"])
    assert keys == ["group:g1"] * 4 + ["group:g4"]


def test_a_chain_of_any_length_is_one_unit() -> None:
    links = list(pairwise(range(300)))
    groups = [f"g{a}" for a, b in links for _ in (a, b)]
    contents = [f"s{number}" for link in links for number in link]
    assert set(merge_identical(groups, contents)) == {"group:g0"}


def test_a_file_of_unknown_group_belongs_only_to_its_copies() -> None:
    assert merge_identical(["", "", ""], ["s", "t", "s"]) == ["sha256:s", "sha256:t", "sha256:s"]


def test_a_group_named_like_a_hash_is_not_taken_for_one() -> None:
    first, second = merge_identical(["s", ""], ["t", "s"])
    assert first != second


def test_a_group_and_a_content_for_each_file_are_needed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        merge_identical(["g1", "g2"], ["s"])


@given(groups=groups_of_one_label(least=3), folds=st.integers(3, 5), seed=SEEDS)
def test_over_all_folds_every_group_is_tested_exactly_once(groups: Groups, folds: int, seed: int) -> None:
    assume(len(groups) >= folds)
    dealt = deal(groups, {str(number): 1.0 for number in range(1, folds + 1)}, seed=seed)
    tested = Counter(group for fold in range(1, folds + 1) for group, name in dealt.items() if fold_sides(fold, folds)[name] == "test")
    assert tested == Counter(groups.keys())


def test_the_protocols_are_the_three_of_the_design() -> None:
    assert PROTOCOLS == ("official", "grouped", "random")
