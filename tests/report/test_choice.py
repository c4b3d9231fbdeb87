import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.card import Estimate
from cellclf.cli.choose import verdict
from cellclf.data.prepare import DataRequest
from cellclf.errors import StudyError, UnknownNameError
from cellclf.evaluation.metrics import measure
from cellclf.report.choice import choose
from cellclf.report.choice_picture import draw_choice, unbeaten
from cellclf.report.comparing import Candidate
from cellclf.report.contenders import Choice, Limits
from cellclf.report.deployments import deployments, ways_of
from cellclf.report.eligible import eligible_runs, eligible_study
from cellclf.report.loading import load_all
from cellclf.report.prices import Assumptions, price_of
from cellclf.studies.measurements import EXTRA_INFO_KEY, MeasuredAccuracy, Measurement
from cellclf.studies.study import Study, Variation
from cellclf.training.recipe import Recipe, make_recipe
from cellclf.training.run import Run
from tests.conftest import Completed
from tests.report.making import make_study
from tests.studies.making import make_run

GOOD, POOR = 1.4, -0.2
BUSY = Assumptions(price_per_hour=0.36, utilisation=1)


def recipe(backbone: str, **choices: object) -> Recipe:
    return make_recipe(backbone, DataRequest(data="sample"), **{"epochs": 2, "image_size_px": 96, "learning_rate": 1e-3, **choices})


def measurement(backbone: str, latency_ms: float = 10.0, **changes: object) -> Measurement:
    fields: dict[str, object] = {
        "backbone": backbone, "image_size_px": 96, "labels": 2, "precision": "fp32", "provider": "CPUExecutionProvider", "batch": 1, "threads": 2,
        "calls": 10, "latency_ms": {"50": latency_ms / 2, "95": latency_ms}, "images_per_second": 1000 / latency_ms, "file_size_mb": 4.0,
        "model": "m.onnx", "hardware": "test", "cores": 2,
    }  # fmt: skip
    return Measurement.model_validate(fields | changes)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A good, a nearly as good and a poor network; two seeds each."""
    skills = {"resnet50": GOOD, "mobilenet": GOOD - 0.2, "vgg16": POOR}
    return [
        make_run(tmp_path / "runs" / f"{name}-{seed}", recipe(name, seed=seed), skill=skill, seed=seed)
        for name, skill in skills.items()
        for seed in (0, 1)
    ]


def candidates(runs: Sequence[Run]) -> list[Candidate]:
    return eligible_runs(runs, factors=["backbone"], by="validation")[0]


def chosen(runs: Sequence[Run], measured: Sequence[Measurement] = (), **limits: object) -> Choice:
    return choose(candidates(runs), measured, Limits.model_validate(limits), by="validation", assumed=BUSY)


def models(contenders: Sequence[object]) -> list[str]:
    return [contender.backbone for contender in contenders]  # type: ignore[attr-defined]  # Contender


def test_the_best_on_validation_wins_and_is_told_from_the_poor_one_only(runs: list[Run]) -> None:
    found = chosen(runs)
    assert models(found.kept) == ["resnet50", "mobilenet", "vgg16"]
    winner, near, poor = found.kept
    assert winner.against_winner is None
    assert not near.distinguishable
    assert poor.distinguishable
    assert poor.against_winner is not None
    assert poor.against_winner.difference > 0.2
    assert found.excluded == ()


def test_the_winners_lead_is_tested_on_the_images_that_had_no_say(runs: list[Run]) -> None:
    winner, near, poor = chosen(runs).kept
    assert near.against_winner is not None
    assert poor.against_winner is not None
    for each in (near, poor):
        assert each.against_winner is not None
        assert each.against_winner.difference == pytest.approx(winner.test.mean.value - each.test.mean.value)
    assert near.adjusted_p is not None
    assert poor.adjusted_p == pytest.approx(2 * poor.against_winner.p_value)
    by_test = choose(candidates(runs), [], Limits(), by="test", assumed=BUSY)
    last = by_test.kept[-1]
    assert last.against_winner is not None
    assert last.adjusted_p == pytest.approx(3 * last.against_winner.p_value), "the test images picked the winner: one of all three pairs"


def test_a_model_that_the_test_images_prefer_is_said_and_is_not_beaten(runs: list[Run]) -> None:
    good = next(run for run in runs if run.name == "resnet50-0")
    manifest, test = good.manifest(), good.manifest().split("test")
    truth = np.array([manifest.labels.index(entry.label) for entry in test])
    wrong = (0.9 - 0.8 * np.eye(2)[truth]).astype(np.float32)
    good.write_predictions(manifest, {"validation": load_all([good])[0][good.folder].validation.probabilities.astype(np.float32), "test": wrong})
    figures = measure(wrong, truth, manifest.labels, groups=manifest.group_keys("test"), unit="group")
    good.metrics().model_copy(update={"test": figures}).write(good.folder / "metrics.json")
    found = chosen([run for run in runs if run.name in ("resnet50-0", "vgg16-0")])
    winner, other = found.kept
    assert (winner.backbone, other.backbone) == ("resnet50", "vgg16")
    assert other.better_on_test
    assert not other.distinguishable
    assert "validation misled" in verdict(found)


def test_one_seed_never_tells_a_lead_from_the_seeds(runs: list[Run]) -> None:
    found = chosen([run for run in runs if run.name in ("resnet50-0", "vgg16-0")])
    assert found.kept[1].distinguishable
    assert not found.kept[1].seeds_apart
    assert "that it is not the seed cannot be told" in verdict(found)
    several = chosen([run for run in runs if run.name.startswith(("resnet50", "vgg16"))])
    assert several.kept[1].seeds_apart
    assert verdict(several).endswith("better than every other model, with every seed (p < .05 after correction)")


def test_models_of_other_test_images_are_chosen_among_by_force_but_never_paired(tmp_path: Path) -> None:
    made = [
        make_run(tmp_path / "runs" / name, recipe(backbone), salt=name, skill=skill)
        for name, backbone, skill in (("a", "resnet50", GOOD), ("b", "mobilenet", POOR))
    ]
    with pytest.raises(StudyError, match="--force"):
        eligible_runs(made, factors=["backbone"], by="validation")
    forced, _ = eligible_runs(made, factors=["backbone"], by="validation", force=True)
    found = choose(forced, [], Limits(), by="validation", assumed=BUSY)
    assert [each.against_winner for each in found.kept] == [None, None]
    assert "mobilenet" not in (found.frugal or "")
    assert "b saw other test images" in verdict(found)


def test_of_a_study_one_protocol_may_be_chosen_from_and_titles_tell_protocols_apart(tmp_path: Path) -> None:
    study = Study.model_validate(
        {
            "name": "two", "title": "Two", "data": "sample", "factors": ("backbone",), "protocols": ("official", "grouped"),
            "common": {"epochs": 3, "weights": "none", "learning_rate": 1e-3},
            "variations": (Variation(name="one", title="One", backbone="mobilenet"), Variation(name="two", title="Two", backbone="vgg16")),
        }
    )  # fmt: skip
    folder = make_study(tmp_path / "s", study, protocols=("official", "grouped"), skills={"one": GOOD, "two": POOR})
    with pytest.raises(StudyError, match="protocol"):
        eligible_study(folder, by="validation")
    one, _ = eligible_study(folder, by="validation", protocol="grouped")
    assert [each.title for each in one] == ["One", "Two"]
    forced, _ = eligible_study(folder, by="validation", force=True)
    assert [each.title for each in forced] == ["One (official)", "Two (official)", "One (grouped)", "Two (grouped)"]
    assert len(choose(forced, [], Limits(), by="validation", assumed=BUSY).kept) == 4
    with pytest.raises(StudyError, match="no run under --protocol random; it has official, grouped"):
        eligible_study(folder, by="validation", protocol="random")


def test_a_part_of_the_data_is_said_and_is_not_compared_with_the_whole(tmp_path: Path) -> None:
    part = recipe("mobilenet").model_copy(update={"data": DataRequest(data="sample", images_fraction=0.4)})
    made = [make_run(tmp_path / "runs" / "a", part, skill=GOOD), make_run(tmp_path / "runs" / "b", recipe("vgg16"), skill=POOR)]
    with pytest.raises(StudyError, match="images: 40 % of the images / all images"):
        eligible_runs(made, factors=["backbone"], by="validation")
    _, notes = eligible_runs(made[:1], factors=["backbone"], by="validation")
    assert "reduced scale: 40 % of the images" in notes


def test_figures_are_those_of_the_recorded_predictions(runs: list[Run]) -> None:
    winner = chosen(runs).kept[0]
    recorded = [run.metrics() for run in runs[:2]]
    assert winner.figure.mean.value == pytest.approx(sum(m.validation.balanced_accuracy.value for m in recorded) / 2)
    assert winner.test.mean.value == pytest.approx(sum(m.test.balanced_accuracy.value for m in recorded) / 2)


MEASURED = [measurement("resnet50", 50.0, file_size_mb=94.0), measurement("mobilenet", 8.0), measurement("vgg16", 90.0, file_size_mb=58.0)]


@pytest.mark.parametrize(
    ("limits", "kept", "reason"),
    [
        ({"max_latency_ms": 60}, ["resnet50", "mobilenet"], "latency 90 ms > 60"),
        ({"max_size_mb": 10}, ["mobilenet"], "size 94 MB > 10"),
        ({"max_cost": 1.0}, ["mobilenet"], "cost of a million images 5 > 1"),
        ({"min_sensitivity": 0.8}, ["resnet50", "mobilenet"], "sensitivity of"),
    ],
)
def test_what_does_not_keep_a_limit_is_excluded_with_the_reason(runs: list[Run], limits: dict[str, object], kept: list[str], reason: str) -> None:
    found = chosen(runs, MEASURED, **limits)
    assert models(found.kept) == kept
    assert any(reason in text for each in found.excluded for text in each.excluded)
    assert len(found.kept) + len(found.excluded) == 3


def test_every_limit_that_is_not_kept_is_named(runs: list[Run]) -> None:
    found = chosen(runs, MEASURED, max_latency_ms=1, max_size_mb=1)
    assert found.kept == ()
    assert {len(each.excluded) for each in found.excluded} == {2}


def test_a_model_that_was_not_measured_is_excluded_where_others_were(runs: list[Run]) -> None:
    found = chosen(runs, MEASURED[:1])
    assert models(found.kept) == ["resnet50"]
    assert {each.excluded for each in found.excluded} == {("no measurement of mobilenet at 96 px",), ("no measurement of vgg16 at 96 px",)}


def test_the_quicker_model_that_cannot_be_told_from_the_winner_is_offered_and_the_pareto_front_marked(runs: list[Run]) -> None:
    found = chosen(runs, MEASURED)
    assert found.frugal is not None
    assert found.frugal.startswith("mobilenet")
    assert {each.backbone: each.pareto for each in found.kept} == {"resnet50": True, "mobilenet": True, "vgg16": False}


def own_file(run: Run, **changes: object) -> Measurement:
    """A measurement of a file that was exported from the run."""
    setup = run.setup()
    told = {"file_sha256": "f" * 64, "recipe_fingerprint": setup.recipe.fingerprint, "data_fingerprint": setup.data.fingerprint}
    return measurement(setup.recipe.backbone, 20.0, **told, **changes)


def answered(lost_points: float | None) -> MeasuredAccuracy:
    return MeasuredAccuracy(dataset="sample", split="test", images=9, accuracy=0.8, balanced_accuracy=0.8, difference_to_fp32_points=lost_points)


def test_a_models_deployments_contend_on_their_own_quickest_first(runs: list[Run]) -> None:
    measured = [measurement("resnet50", 50.0), own_file(runs[0], precision="int8", accuracy=answered(-0.1))]
    found = chosen(runs[:2], measured)
    assert [each.deployment.precision for each in found.kept if each.deployment] == ["int8", "fp32"]
    assert all(each.against_winner is None for each in found.kept)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accuracy": answered(-0.72)}, "run so it loses more than 0.3 points, against its fp32 file"),
        ({"accuracy": None}, "what it answers in int8 was not measured: export it so and measure that file ($CELLCLF_BENCH_MODELS)"),
        (
            {"accuracy": answered(0.0), "recipe_fingerprint": "another's"},
            "what it answers in int8 was not measured: export it so and measure that file",
        ),
    ],
)
def test_a_way_whose_own_accuracy_is_lost_or_not_known_is_never_chosen(runs: list[Run], changes: dict[str, object], reason: str) -> None:
    way = own_file(runs[0], precision="int8").model_copy(update=changes)
    found = chosen(runs[:2], [measurement("resnet50", 50.0), way])
    assert [each.deployment.precision for each in found.kept if each.deployment] == ["fp32"]
    assert [each.excluded[0][: len(reason)] for each in found.excluded] == [reason]


def test_a_deployment_takes_latency_from_the_smallest_batch_and_throughput_from_the_best() -> None:
    rows = [measurement("vgg16", 10.0), measurement("vgg16", 64.0, batch=32, images_per_second=500.0)]
    ((way,),) = deployments(rows, Assumptions(price_per_hour=1.8, utilisation=1)).values()
    assert (way.latency_ms, way.latency_batch, way.images_per_second, way.throughput_batch) == (10.0, 1, 500.0, 32)
    assert way.cost_per_million is not None
    assert way.cost_per_million.value == pytest.approx(1.0)


def test_a_measurement_that_is_not_steady_is_shown_and_never_wins(runs: list[Run]) -> None:
    shaky = measurement("resnet50", 1.0, steady=False, spread=0.31)
    found = chosen(runs, [shaky, *MEASURED[1:]])
    assert models(found.kept) == ["mobilenet", "vgg16"]
    assert [(each.backbone, each.excluded) for each in found.excluded] == [("resnet50", ("its measurement is not steady: windows differ by 31 %",))]


def test_a_steady_batch_speaks_for_a_deployment_before_a_quicker_one_that_is_not() -> None:
    rows = [measurement("vgg16", 10.0), measurement("vgg16", 64.0, batch=32, images_per_second=500.0, steady=False)]
    ((way,),) = deployments(rows, BUSY).values()
    assert (way.steady, way.images_per_second) == (True, 100.0)


def test_a_peer_is_no_deployment_and_engines_are_kept_apart() -> None:
    rows = [
        measurement("vgg16", 1.0, engine="keras-predict"),
        measurement("vgg16", 1.0, engine="openvino", provider="OpenVINO CPU"),
        measurement("vgg16", 9.0),
        measurement("vgg16", 5.0, engine="openvino", provider="OpenVINO:CPU bf16", precision="bf16"),
    ]
    ((*ways,),) = deployments(rows, BUSY).values()
    assert [(way.engine, way.latency_ms) for way in ways] == [("onnxruntime", 9.0), ("openvino", 5.0)]


@pytest.mark.parametrize(
    ("points", "same", "changes"),
    [
        (-0.72, None, "loses more than 0.3 points"),
        (-0.04, 0.995, ""),
        (0.5, 0.9949, "calls more than 0.5 % otherwise"),
        (-0.4, 0.9, "loses more than 0.3 points, calls more than 0.5 % otherwise"),
        (None, None, ""),
    ],
)
def test_a_way_keeps_its_answers_where_it_loses_little_and_calls_few_images_otherwise(points: float | None, same: float | None, changes: str) -> None:
    told = answered(points).model_copy(update={"same_labels_as_fp32": same})
    ((way,),) = deployments([measurement("vgg16", 4.0), measurement("vgg16", 40.0, batch=32, accuracy=told)], BUSY).values()
    assert way.changes == changes
    assert way.keeps_answers is (not changes)


def test_ways_belong_to_a_file_and_only_speed_is_taken_from_another() -> None:
    """Two files of one network and random weights; each model is shown with what its own file answers."""
    told = {"data_fingerprint": "d", "accuracy": answered(0.0)}
    mine = measurement("vgg16", 4.0, precision="int8", recipe_fingerprint="mine", file_sha256="mineint8", **told)
    other = [
        measurement("vgg16", 4.0, precision=precision, recipe_fingerprint="other", file_sha256=f"other{precision}", **told)
        for precision in ("int8", "bf16", "fp32")
    ]
    one_thread = measurement("vgg16", 9.0, threads=1, precision="int8", recipe_fingerprint="mine", data_fingerprint="d", file_sha256="mineint8")
    skeleton = measurement("vgg16", 5.0, precision="fp16", made="skeleton")
    (ways,) = deployments([mine, one_thread, *other, skeleton], BUSY).values()
    assert len(ways) == 6
    found = ways_of(ways, [("mine", "d")], Estimate(value=0.9))
    assert [(way.precision, way.threads, way.accuracy_of, way.accuracy and way.accuracy.value) for way in found] == [
        ("int8", 2, "file", 0.8),
        ("int8", 1, "file", 0.8),
        ("bf16", 2, "nothing", None),
        ("fp32", 2, "run", 0.9),
        ("fp16", 2, "nothing", None),
    ]


def test_a_card_without_a_price_cannot_keep_a_limit_of_cost(runs: list[Run]) -> None:
    found = chosen(runs[:2], [measurement("resnet50", 1.0, provider="CUDAExecutionProvider", gpu="Unheard Of 9")], max_cost=100)
    assert found.excluded[0].excluded == ("its machine has no price: give --price 'Unheard Of 9=X'",)


def test_what_nothing_beats_in_both_is_joined(runs: list[Run]) -> None:
    found = chosen(runs, MEASURED)
    joined = unbeaten(found.kept, lambda each: each.deployment.cost_per_million if each.deployment else None)
    assert [each.backbone for each, _ in joined] == ["mobilenet", "resnet50"]
    assert [value.value for _, value in joined] == pytest.approx([0.8, 5.0])


@given(asked=st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_a_threshold_is_chosen_on_validation_for_each_run_and_reaches_what_was_asked_there(
    asked: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = [make_run(tmp_path_factory.mktemp("runs") / f"r{seed}", recipe("vgg16", seed=seed), skill=1.5, seed=seed) for seed in (0, 1)]
    (winner,) = chosen(runs, min_sensitivity=asked, positive="B").kept
    assert len(winner.thresholds) == 2
    for run, threshold in zip(runs, winner.thresholds, strict=True):
        answers, labels = run.predictions("validation"), {entry.path: entry.label for entry in run.manifest().split("validation")}
        positives = [values[1] for path, values in answers.items() if labels[path] == "B"]
        assert sum(value >= threshold for value in positives) / len(positives) >= asked
    assert winner.sensitivity is not None
    assert winner.specificity is not None


def test_a_sensitivity_that_only_calling_everything_positive_reaches_excludes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", recipe("vgg16"), skill=-3.0)
    found = chosen([run], min_sensitivity=1.0, positive="B")
    assert found.kept == ()
    assert "only by calling every image positive" in found.excluded[0].excluded[0]


def test_limits_that_need_a_measurement_or_a_price_say_so(runs: list[Run]) -> None:
    with pytest.raises(StudyError, match="need measurements"):
        chosen(runs, max_latency_ms=5)
    with pytest.raises(UnknownNameError, match="unknown machine 'gpu-h2000'; did you mean gpu-h200"):
        choose(candidates(runs), MEASURED, Limits(), by="validation", assumed=Assumptions(prices={"gpu-h2000": 1.0}))
    with pytest.raises(UnknownNameError, match="unknown label 'C'"):
        chosen(runs, min_sensitivity=0.9, positive="C")


def test_runs_that_are_not_comparable_are_refused_unless_forced_and_then_it_is_said(runs: list[Run], tmp_path: Path) -> None:
    odd = make_run(tmp_path / "odd", recipe("xception", epochs=3))
    with pytest.raises(StudyError, match=r"cannot be ranked.*epochs"):
        eligible_runs([*runs, odd], factors=["backbone"], by="validation")
    forced, notes = eligible_runs([*runs, odd], factors=["backbone"], by="validation", force=True)
    assert len(forced) == 4
    assert any("ranked by force" in text and "epochs" in text for text in notes)


def test_a_leak_is_never_chosen_by_unless_forced_and_then_it_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", recipe("vgg16"))
    setup = json.loads((run.folder / "recipe.json").read_text(encoding="utf-8"))
    setup["data"]["leaks"] = [{"split": "validation", "reason": "copies"}]
    (run.folder / "recipe.json").write_text(json.dumps(setup), encoding="utf-8")
    with pytest.raises(StudyError, match="validation LEAKS: copies"):
        eligible_runs([run], factors=["backbone"], by="validation")
    assert len(eligible_runs([run], factors=["backbone"], by="test")[0]) == 1
    assert "too good" in eligible_runs([run], factors=["backbone"], by="validation", force=True)[1][0]


def test_the_pareto_picture_is_a_picture_and_needs_measurements(runs: list[Run], tmp_path: Path) -> None:
    draw_choice(tmp_path / "p.png", chosen(runs, MEASURED, max_size_mb=60))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StudyError, match="needs measurements"):
        draw_choice(tmp_path / "q.png", chosen(runs))
    assert not (tmp_path / "q.png").exists()


def test_a_choice_tells_what_the_winner_costs_besides_running_it(runs: list[Run]) -> None:
    """Two seeds that learned for so long, at 0.36 an hour of the machine; 3.6 J an image are a kilowatt-hour a million, at 400 g of CO₂."""
    taken_s = [run.metrics().learning_time.total_s for run in runs[:2]]
    cpu, gpu = measurement("resnet50", 50.0, joules_per_image=3.6), measurement("resnet50", 1.0, gpu="NVIDIA H200", provider="CUDAExecutionProvider")
    spent = chosen(runs[:2], [cpu, gpu, measurement("vgg16")]).spending
    assert spent is not None and spent.training is not None and spent.break_even is not None
    assert spent.training_s.mean == pytest.approx(sum(taken_s) / 2)
    per_hour = price_of(BUSY, cores=2)
    assert per_hour is not None
    assert spent.training == pytest.approx(spent.training_s.mean / 3600 * per_hour.per_hour)
    assert spent.training_per_million == pytest.approx(spent.training * 1e6 / BUSY.lifetime_images)
    assert (spent.break_even.backbone, spent.break_even.gpu is not None) == ("resnet50", True)
    alone = chosen(runs[:2], [cpu]).spending
    assert alone is not None and alone.break_even is not None
    assert (alone.kwh_per_million, alone.co2_g_per_million) == pytest.approx((1.0, 400.0))
    assert alone.break_even.reason == "not yet measured on a GPU"
    assert chosen(runs[:2], [cpu], max_latency_ms=1).spending is None


def test_choose_prints_winner_rivals_and_excluded(runs: list[Run], tmp_path: Path, cli: Callable[..., Completed]) -> None:
    file = tmp_path / "b.json"
    lossy = own_file(runs[0], precision="int8", accuracy=answered(-0.72))
    records = [{"extra_info": {EXTRA_INFO_KEY: each.model_dump(mode="json")}} for each in (*MEASURED, lossy)]
    file.write_text(json.dumps({"benchmarks": records}), encoding="utf-8")
    done = cli("choose", "--runs", str(runs[0].folder.parent), "--benchmarks", str(file), "--max-latency-ms", "60")
    assert done.code == 0, done.err
    assert "it cannot be told from mobilenet-0" in done.out
    assert "excluded: vgg16-0" in done.out
    assert "excluded: resnet50-0, int8 on CPU, 2 threads: run so it loses more than 0.3 points" in " ".join(done.out.split())
    assert "that very file loses at most 0.3 points" in " ".join(done.out.split())
    assert "cost of a million images at a utilisation of 0.5" in done.out
    assert "one CPU core: 0.05 USD an hour (2026-11, a round assumption" in done.out
    told = " ".join(done.out.split())
    assert "the winner: training took " in told and "energy was not measured; when a GPU pays: not yet measured on a GPU" in told
    assert "images decoded in memory: what reading, decoding and resizing files takes comes on top (--decode-ms)" in told
    dear = cli("choose", "--runs", str(runs[0].folder.parent), "--benchmarks", str(file), "--max-cost", "2", "--price-per-hour", "0.36", "--json")
    assert [each["backbone"] for each in json.loads(dear.out)["kept"]] == ["mobilenet"]
    wrong = cli("choose", "--runs", str(runs[0].folder.parent), "--price", "gpu-h200")
    assert (wrong.code, wrong.err.strip()) == (1, "cellclf: --price 'gpu-h200' is no price; give NAME=X, as gpu-h200=4.5")
    nothing = cli("choose", "--runs", str(runs[0].folder.parent), "--benchmarks", str(file), "--max-latency-ms", "1")
    assert (nothing.code, nothing.err.strip().splitlines()[-1]) == (1, "cellclf: no model can be chosen; each one's reason stands above")
    as_json = cli("choose", "--runs", str(runs[0].folder.parent), "--json")
    assert json.loads(as_json.out)["kept"][0]["backbone"] == "resnet50"
