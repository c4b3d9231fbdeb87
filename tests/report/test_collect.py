from pathlib import Path

import pytest

from cellclf.data.prepare import DataRequest
from cellclf.errors import StudyError
from cellclf.report.collect import Collected, collect_runs, collect_study
from cellclf.report.comparing import answer, verdict_of
from cellclf.report.decision_table import label_table
from cellclf.report.figures import Comparison, Report, Section
from cellclf.report.summary import in_short
from cellclf.report.tables import details_table
from cellclf.studies.plan import Failure, StudyFolder
from cellclf.studies.scale import Scale
from cellclf.studies.study import Published, Question, Study, Variation
from cellclf.studies.table import find_study
from cellclf.training.recipe import Recipe, make_recipe
from tests.report.making import Data, make_run, make_study

DATA = Data(groups=24)


def study(**changes: object) -> Study:
    fields: dict[str, object] = {
        "name": "depth",
        "title": "Depth",
        "data": "sample",
        "factors": ("hidden",),
        "protocols": ("random", "official"),
        "common": {"epochs": 3, "weights": "none"},
        "variations": (
            Variation(name="one", title="One", backbone="mobilenet025", choices={"hidden": (8,)}, published=Published(test_accuracy=0.99)),
            Variation(name="two", title="Two", backbone="mobilenet025", choices={"hidden": (8, 8)}),
            Variation(name="three", title="Three", backbone="mobilenet025", choices={"hidden": (8, 8, 8)}),
        ),
        "questions": (Question(text="Does depth matter?", factor="hidden", variations=("one", "two", "three")),),
    }
    return Study.model_validate(fields | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Three variations, the last of which is much worse; two protocols, of which the random one leaks; three seeds."""
    return make_study(
        tmp_path_factory.mktemp("runs") / "study-depth", study(), skills={"one": 2.0, "two": 2.0, "three": 0.2}, seeds=(0, 1, 2), data=DATA
    )


@pytest.fixture(scope="module")
def collected(folder: StudyFolder) -> Collected:
    return collect_study(folder)


def section_of(report: Report, protocol: str) -> Section:
    return next(section for section in report.sections if section.protocol == protocol)


def comparison(section: Section, title: str) -> Comparison:
    return next(each for each in section.answers[0].comparisons if each.first == title)


def test_a_study_has_a_section_a_protocol_and_the_one_that_does_not_leak_comes_first(collected: Collected) -> None:
    official, random = collected.report.sections
    assert (official.protocol, random.protocol) == ("official", "random")
    assert [model.title for model in official.models] == ["One", "Two", "Three"]
    assert {model.seeds for model in official.models} == {(0, 1, 2)}
    assert not any(model.test.leak for model in official.models)
    assert {model.test.leak for model in random.models} == {"made-up leak"}
    assert official.leaks == ()
    assert random.leaks == ("validation LEAKS: made-up leak", "test LEAKS: made-up leak")


def test_published_figures_stand_beside_the_protocol_they_were_published_under_whichever_was_run_first(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "s", study(), protocols=("official", "random"), data=DATA)
    assert folder.plan.protocols[0] == "official"
    assert collect_study(folder).report.published_protocol == "random"


def test_every_figure_is_that_of_the_recorded_runs(folder: StudyFolder, collected: Collected) -> None:
    model = section_of(collected.report, "official").models[0]
    metrics = [planned.run.metrics() for planned in folder.planned() if planned.protocol == "official" and planned.variation.name == "one"]
    assert model.runs == ("official-one-s0", "official-one-s1", "official-one-s2")
    assert model.test.accuracy.mean.value == pytest.approx(sum(each.test.accuracy.value for each in metrics) / 3)
    assert model.test.loss.mean == pytest.approx(sum(each.test.loss for each in metrics) / 3)
    assert model.learning_time.mean == pytest.approx(sum(each.learning_time.total_s for each in metrics) / 3)
    assert (model.learning_time.least, model.learning_time.greatest) == (65, 67)
    assert model.test.accuracy.spread.greatest == max(each.test.accuracy.value for each in metrics)
    assert [curve.seed for curve in model.curves] == [0, 1, 2]
    assert all(curve.validation_loss == pytest.approx((1, 1 / 2, 1 / 3)) for curve in model.curves)


def test_comparable_models_are_ranked_and_each_is_tested_against_the_first(collected: Collected) -> None:
    official = section_of(collected.report, "official")
    (only,) = official.sets
    values = [model.test.balanced_accuracy.mean.value for model in official.models]
    assert only.ranks[2] == 3
    assert sorted(only.ranks) == [1, 2, 3]
    assert values[only.ranks.index(1)] == max(values)
    assert {each.second for each in only.against_first} == {official.models[only.ranks.index(1)].title}
    assert {each.family for each in only.against_first} == {3}, "these images picked the first, so that each comparison is one of all pairs"


def test_a_question_is_answered_with_interval_test_and_what_was_averaged(collected: Collected) -> None:
    (answer,) = section_of(collected.report, "official").answers
    worse, alike = (comparison(section_of(collected.report, "official"), title) for title in ("Three", "Two"))
    assert answer.verdict == "matters"
    assert worse.second == "One"
    assert worse.adjusted_p < 0.05 < alike.adjusted_p
    assert worse.test.low is not None and worse.test.high is not None
    assert worse.test.low < worse.test.difference < worse.test.high < 0
    assert answer.sentence.startswith("It matters: balanced accuracy, Two against One: ")
    assert "over 24 groups, each image averaged over 3 seeds" in answer.sentence
    assert "LEAKS" not in answer.sentence


def test_an_answer_from_a_leaking_test_set_says_so(collected: Collected) -> None:
    assert "The test set LEAKS (made-up leak)" in section_of(collected.report, "random").answers[0].sentence


def test_the_same_recipe_stands_side_by_side_under_both_protocols(collected: Collected) -> None:
    pairs = collected.report.side_by_side
    assert [pair.title for pair in pairs] == ["One", "Two", "Three"]
    assert [pair.published for pair in pairs] == [0.99, None, None]
    random, official = (section_of(collected.report, protocol).models for protocol in ("random", "official"))
    assert [(pair.random, pair.other) for pair in pairs] == [(a.test.accuracy, b.test.accuracy) for a, b in zip(random, official, strict=True)]
    assert {(pair.random_leak, pair.other_leak) for pair in pairs} == {("made-up leak", "")}


def test_the_scale_the_commands_and_the_machine_are_told(collected: Collected, folder: StudyFolder) -> None:
    report = collected.report
    assert report.scale == "reduced scale: at most 3 epochs"
    assert report.commands[0] == "cellclf study run FILE.toml --scale 'epochs=3' --seeds 3 --protocol random,official"
    assert report.hardware == ("test CPU, 2 cores, no GPU; ran on CPU",)
    assert report.commits == ("abc123",)
    assert str(folder.folder.parent) not in report.model_dump_json()


def test_mistakes_are_the_surest_wrong_answers_one_a_group(collected: Collected) -> None:
    official = section_of(collected.report, "official")
    best = max(official.models, key=lambda model: model.test.balanced_accuracy.mean.value)
    assert official.mistakes_of == best.title
    assert all(mistake.label != mistake.called for mistake in official.mistakes)
    sure = [mistake.probability for mistake in official.mistakes]
    assert sure == sorted(sure, reverse=True)
    groups = [mistake.path.rpartition("-")[0] for mistake in official.mistakes]
    assert len(set(groups)) == len(groups) > 0
    assert {mistake.models for mistake in official.mistakes} == {3}
    assert all(1 <= mistake.models_wrong <= 3 for mistake in official.mistakes)


def test_one_seed_alone_never_makes_a_factor_matter(tmp_path: Path) -> None:
    report = collect_study(make_study(tmp_path / "s", study(), skills={"three": 0.1}, protocols=("official",), data=DATA)).report
    (answer,) = report.sections[0].answers
    assert comparison(report.sections[0], "Three").adjusted_p < 0.05
    assert answer.verdict == "differs"
    assert "that it is not the seed cannot be told" in answer.sentence
    assert "one seed each" in answer.sentence


def test_alike_networks_cannot_be_told_apart(tmp_path: Path) -> None:
    report = collect_study(make_study(tmp_path / "s", study(), protocols=("official",), seeds=(0, 1), data=DATA)).report
    (answer,) = report.sections[0].answers
    assert answer.verdict == "not told"
    assert answer.sentence.startswith("No difference can be told: balanced accuracy, ")


def test_models_that_differ_in_more_than_the_factor_stand_unranked_with_what_differs(tmp_path: Path) -> None:
    report = collect_study(make_study(tmp_path / "s", find_study("A"), scale=Scale(epochs=2), protocols=("official",))).report
    (only,) = report.sections[0].sets
    assert (only.models, only.ranks, only.against_first) == ((1, 2, 3, 4), (), ())
    assert [difference.field for difference in only.against_others] == ["image_size_px", "learning_rate", "hidden"]
    assert only.against_others[0].values == {"224": ("MobileNet", "ResNet50"), "299": ("InceptionV3", "Xception")}


def test_force_ranks_what_differs_and_names_the_differences(tmp_path: Path) -> None:
    report = collect_study(make_study(tmp_path / "s", find_study("A"), scale=Scale(epochs=2), protocols=("official",)), force=True).report
    (only,) = report.sections[0].sets
    values = [model.test.balanced_accuracy.mean.value for model in report.sections[0].models]
    assert list(only.ranks) == [1 + sum(other > value for other in values) for value in values]
    assert [difference.field for difference in only.differences] == ["image_size_px", "learning_rate", "hidden"]
    assert len(only.against_first) == 3


def test_runs_without_a_result_are_listed_with_their_reasons(tmp_path: Path) -> None:
    made = make_study(tmp_path / "s", study(), protocols=("official",), seeds=(0, 1), data=DATA)
    failed, interrupted, broken = (planned for planned in made.planned() if planned.seed == 1)
    (failed.run.folder / "metrics.json").unlink()
    Failure(run=failed.name, reason="killed by signal 9 (out of memory?)", exit_code=-9, log="logs/x.log").write(failed.failure_file)
    (interrupted.run.folder / "metrics.json").unlink()
    (broken.run.folder / "metrics.json").write_text("{")
    found = collect_study(made)
    assert [(run.run, run.state) for run in found.report.failed] == [
        ("official-one-s1", "failed"),
        ("official-two-s1", "interrupted"),
        ("official-three-s1", "damaged"),
    ]
    assert found.report.failed[0].reason == "killed by signal 9 (out of memory?)"
    assert [run.run for run in found.damaged] == ["official-three-s1"]
    assert {model.seeds for model in found.report.sections[0].models} == {(0,)}


def test_a_variation_that_lacks_a_seed_is_not_ranked_but_compared_on_the_seeds_it_has(tmp_path: Path) -> None:
    made = make_study(tmp_path / "s", study(), protocols=("official",), seeds=(0, 1), data=DATA)
    missing = next(planned for planned in made.planned() if planned.name == "official-three-s1")
    (missing.run.folder / "metrics.json").unlink()
    (official,) = collect_study(made).report.sections
    assert [each.models for each in official.sets] == [(1, 2), (3,)]
    assert [difference.field for difference in official.sets[1].against_others] == ["seeds"]
    assert comparison(official, "Two").seeds == (0, 1)
    assert comparison(official, "Three").seeds == (0,)


def test_a_question_whose_variations_differ_elsewhere_is_not_answered(tmp_path: Path) -> None:
    two = Variation(name="two", title="Two", backbone="mobilenet025", choices={"hidden": (8, 8), "dropout": 0.1})
    asked = study(
        variations=(study().variations[0], two), questions=(Question(text="Does depth matter?", factor="hidden", variations=("one", "two")),)
    )
    (answer,) = collect_study(make_study(tmp_path / "s", asked, protocols=("official",))).report.sections[0].answers
    assert (answer.verdict, answer.comparisons) == ("not asked", ())
    assert "Two differs from One in more than hidden: dropout" in answer.sentence


def test_a_study_without_a_finished_run_is_one_error(tmp_path: Path) -> None:
    made = make_study(tmp_path / "s", study(), protocols=("official",))
    for planned in made.planned():
        (planned.run.folder / "metrics.json").unlink()
    with pytest.raises(StudyError, match="holds no finished run to report on; run it with: cellclf study run depth"):
        collect_study(made)


# runs that are no study


def recipe(backbone: str = "mobilenet025", **choices: object) -> Recipe:
    return make_recipe(backbone, DataRequest(data="sample"), **{"epochs": 2, "image_size_px": 96, "learning_rate": 1e-3, **choices})


def test_runs_of_other_data_are_never_in_one_section(tmp_path: Path) -> None:
    cells = make_run(tmp_path / "cells", recipe(), data=Data(name="cells"))
    xrays = make_run(tmp_path / "xrays", recipe("vgg16"), data=Data(name="xrays"))
    report = collect_runs([cells, xrays]).report
    assert [section.data for section in report.sections] == ["cells", "xrays"]
    assert all(not ranked.ranks for section in report.sections for ranked in section.sets)


def test_runs_of_other_data_are_ranked_by_force_only_and_not_tested_against_each_other(tmp_path: Path) -> None:
    cells = make_run(tmp_path / "cells", recipe(), data=Data(name="cells"))
    xrays = make_run(tmp_path / "xrays", recipe("vgg16"), data=Data(name="xrays", groups=10))
    (section,) = collect_runs([cells, xrays], force=True).report.sections
    (only,) = section.sets
    assert sorted(only.ranks) == [1, 2]
    assert "data" in [difference.field for difference in only.differences]
    assert only.against_first == ()


def test_runs_of_one_recipe_are_one_model_and_factors_decide_what_is_ranked(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{name}{seed}", recipe(hidden=hidden, seed=seed)) for name, hidden in (("a", (8,)), ("b", (16,))) for seed in (0, 1)]
    by_backbone, by_hidden = (collect_runs(runs, factors=[factor]).report.sections[0] for factor in ("backbone", "hidden"))
    assert [model.runs for model in by_hidden.models] == [("a0", "a1"), ("b0", "b1")]
    assert [ranked.ranks for ranked in by_backbone.sets] == [()]
    assert [len(ranked.ranks) for ranked in by_hidden.sets] == [2]


def test_an_unknown_factor_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="'colour' is no field of a recipe"):
        collect_runs([make_run(tmp_path / "a", recipe())], factors=["colour"])


def test_no_run_that_can_be_used_is_one_error_with_the_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", recipe())
    (run.folder / "predictions.csv").unlink()
    with pytest.raises(StudyError, match=r"there is no run to report on: a: predictions\.csv cannot be read"):
        collect_runs([run])


def test_losses_that_are_no_numbers_are_shown_as_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", recipe())
    history = run.folder / "history.csv"
    history.write_text(
        "\n".join(row if number == 0 else ",".join(["2", "nan", *row.split(",")[2:]]) for number, row in enumerate(history.read_text().splitlines()))
    )
    (model,) = collect_runs([run]).report.sections[0].models
    assert str(model.curves[0].train_loss[0]) == "nan"


def test_an_answer_that_rests_on_a_network_that_has_not_learned_says_so(collected: Collected) -> None:
    found = section_of(collected.report, "official").answers[0]
    question = Question(text=found.text, factor=found.factor, variations=("one", "two", "three"))
    plain = answer(question, found.comparisons, (), leak="", unit="24 groups")
    said = answer(question, found.comparisons, (), leak="", unit="24 groups", unlearned={"Three", "another"})
    assert "has not learned" not in plain.sentence
    assert (
        said.sentence
        == plain.sentence + " Three calls every test image the same, so that a difference to it says that it has not learned, and no more."
    )


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        (("1234abcd",), None),
        ((), None),
        (("1234abcd", "5678efab-dirty"), "by 2 versions of the code, 1 of them with changes that no commit holds"),
        (("5678efab-dirty",), "made with changes that no commit holds"),
    ],
)
def test_runs_of_several_states_of_the_code_are_told(collected: Collected, commits: tuple[str, ...], said: str | None) -> None:
    sentences = [text for text in in_short(collected.report.model_copy(update={"commits": commits})) if "the code" in text or "no commit" in text]
    assert len(sentences) == (said is not None)
    assert said is None or said in sentences[0]


def test_the_first_is_told_from_the_others_only_where_the_seeds_agree(collected: Collected) -> None:
    official = section_of(collected.report, "official")
    verdicts = [verdict_of(each) for each in official.sets[0].against_first]
    (sentence,) = [text for text in in_short(collected.report) if text.startswith("Made-up, official split: ")]
    assert ("all others can be told from it" in sentence) == (set(verdicts) == {"matters"})
    assert ("cannot be told from it" in sentence) == ("not told" in verdicts)
    one_seed = [each.model_copy(update={"seeds": (0,), "adjusted_p": 0.001}) for each in official.sets[0].against_first]
    assert {verdict_of(each) for each in one_seed} == {"differs"}
    ranked = official.sets[0].model_copy(update={"against_first": tuple(one_seed)})
    changed = collected.report.model_copy(update={"sections": (official.model_copy(update={"sets": (ranked,)}),)})
    assert "2 of the 2 differ from it on these images, but that it is not the seed cannot be told" in in_short(changed)[0]


def test_areas_of_two_labels_are_tested_and_corrected_as_the_accuracies_are(collected: Collected) -> None:
    official = section_of(collected.report, "official")
    models = {model.title: model for model in official.models}
    for each in official.sets[0].against_first:
        assert each.auc is not None
        assert each.auc_adjusted_p is not None
        first, second = (models[title].test.auc for title in (each.first, each.second))
        assert first is not None
        assert second is not None
        assert each.auc.difference == pytest.approx(first.mean.value - second.mean.value)
        assert each.auc.p_value <= each.auc_adjusted_p <= 1
    table = details_table(official, official.sets[0])
    place = table.columns.index("Against the first's (p: Holm)")
    assert [row[place].text == "first" for row in table.rows] == [rank == 1 for rank in official.sets[0].ranks]


def test_of_more_labels_each_has_its_row_and_the_scores_are_the_recorded_ones(tmp_path: Path) -> None:
    three = Data(labels=("A", "B", "C"))
    report = collect_study(make_study(tmp_path / "s", study(), protocols=("official",), data=three)).report
    section = report.sections[0]
    table = label_table(section)
    assert table is not None
    assert [row[1].text for row in table.rows] == [label for _ in section.models for label in three.labels]
    details = details_table(section, section.sets[0])
    model = next(model for model in section.models if model.number == section.sets[0].models[0])
    for column, found in (("Average precision", model.test.average_precision), ("Brier", model.test.brier)):
        assert found is not None
        assert details.rows[0][details.columns.index(column)].text == f"{found.mean:.3f}"
    older = section.model_copy(update={"models": tuple(each.model_copy(update={"by_label": {}}) for each in section.models)})
    assert label_table(older) is None


def test_of_two_labels_the_table_of_operating_points_stands_for_both(collected: Collected) -> None:
    assert all(len(model.by_label) == 2 for model in collected.report.sections[0].models)
    assert label_table(collected.report.sections[0]) is None


def test_of_more_labels_no_areas_are_compared(tmp_path: Path) -> None:
    report = collect_study(make_study(tmp_path / "s", study(), protocols=("official",), data=Data(labels=("A", "B", "C")))).report
    ranked = report.sections[0].sets[0]
    assert [each.auc for each in ranked.against_first] == [None, None]
    assert "Against the first's (p: Holm)" not in details_table(report.sections[0], ranked).columns
