"""The results page: what it says without a GPU, and that every figure of the JSON finds its place."""

from pathlib import Path
from typing import Any

from benchmarks.gpu.page import RESULTS, page
from benchmarks.gpu.record import Machine, Result
from benchmarks.gpu.sittings import NOT_YET
from cellclf.environment import Environment

GPU = {"name": "NVIDIA H200", "driver_version": "580", "clocks.sm": "1980 MHz", "clocks.mem": "3201 MHz", "temperature.gpu": "40"}
MS = {"ms": {"50": 1.5, "90": 1.75, "95": 2.0, "99": 2.25}}


def store(folder: Path, kind: str, rows: list[dict[str, Any]], *, check: bool = False, gpu: dict[str, str] = GPU) -> None:
    machine = Machine(environment=Environment.of_this_machine(), packages={"torch": "2.11.0"}, gpu=gpu, load_average=0.5)
    Result(kind=kind, check=check, command=f"python -m benchmarks.gpu.{kind}", machine=machine, rows=tuple(rows)).write(folder / f"{kind}.json")


def inference_row(engine: str, per_second: float) -> dict[str, Any]:
    return {
        "engine": engine,
        "backbone": "resnet50",
        "batch": 256,
        "image_size_px": 224,
        "choice": {"prefer_nhwc": True},
        "throughput": {"per_second": per_second},
        "latency": MS,
        "latency_from_host": MS,
        "max_difference": 0.001,
        "unsteady": False,
    }


def test_without_json_every_section_says_not_yet_measured(tmp_path: Path) -> None:
    text = page(tmp_path / "missing")
    assert text.count(NOT_YET) == 10


def test_a_check_and_a_machine_without_gpu_are_no_measurements(tmp_path: Path) -> None:
    store(tmp_path, "ceilings", [{"what": "matmul fp16", "size": 128, "tflops": 1.0}], check=True)
    store(tmp_path, "training", [], gpu={})
    assert page(tmp_path) == page(tmp_path / "missing")


def test_inference_stands_beside_its_peer_and_its_roofline(tmp_path: Path) -> None:
    bound = {"what": "roofline", "backbone": "resnet50", "batch": 256, "image_size_px": 224, "multiply_adds": 3.86e9, "layer_by_layer": 5e4}
    store(tmp_path, "ceilings", [{"what": "matmul fp16", "size": 8192, "tflops": 700.0}, {**bound, "images_per_second": 80_000.0}])
    invalid = {"engine": "onnxruntime", "backbone": "vgg16", "batch": 1, "invalid": "asked for CUDAExecutionProvider, got ['CPUExecutionProvider']"}
    store(tmp_path, "inference", [inference_row("torch.compile", 30_000.0), inference_row("onnxruntime", 36_000.0), invalid])
    text = page(tmp_path)
    assert "| ResNet50, 224, 256 | onnxruntime | 36,000 | 45% | 1.20 (by p50 1.00) | ≥ 1.00: reached | 1.500 / 1.750 / 2.250 |" in text
    assert "| VGG16, , 1 | onnxruntime | invalid: asked for CUDAExecutionProvider" in text
    assert "NVIDIA H200, driver 580" in text


def test_each_sitting_is_compared_with_the_peer_of_its_own(tmp_path: Path) -> None:
    store(tmp_path, "inference", [inference_row("torch.compile", 40_000.0), inference_row("onnxruntime", 30_000.0)])
    store(tmp_path, "inference-xla", [inference_row("torch.compile", 30_000.0), inference_row("xla", 36_000.0)])
    text = page(tmp_path)
    assert "| ResNet50 | xla | 1.20 | 1.20 |  | 1.00 | 1.00 | reached |" in text
    assert "| ResNet50, 224, 256 | onnxruntime | 30,000 |  | 0.75 (by p50 1.00) | ≥ 1.00: MISSED |" in text
    assert "| ResNet50, 224, 256 | xla | 36,000 |  | 1.20 (by p50 1.00) | ≥ 1.00: reached |" in text
    assert text.index("\ninference:") < text.index("\ninference-xla:")


def test_several_sittings_are_judged_by_their_mean_and_each_is_shown(tmp_path: Path) -> None:
    for name, speed in (("inference", 33_000.0), ("inference-2", 24_000.0)):
        store(tmp_path, name, [inference_row("torch.compile", 30_000.0), inference_row("xla", speed)])
    assert "| ResNet50 | xla | 0.95 | 1.10, 0.80 | ,  | 1.00, 1.00 | 1.00 | MISSED |" in page(tmp_path)


def test_the_commands_answers_stand_beside_the_cpus(tmp_path: Path) -> None:
    row = {"device": "cuda", "provider": "CUDAExecutionProvider", "verified": {"max_difference": 1e-6}, "predict_s": 4.56, "images": 100}
    store(tmp_path, "product", [{**row, "max_difference": 2e-6}, {"device": "xla", "invalid": "verify: exit code 1: no jax | none"}])
    text = page(tmp_path)
    assert "| cuda | CUDAExecutionProvider | 1e-06 | 4.6 | 100 | 2e-06 |" in text
    assert "| xla | invalid: verify: exit code 1: no jax / none |" in text
    assert f"`--device tensorrt`: {NOT_YET}" in text


def test_a_disturbed_pair_is_judged_by_the_peer_s_fastest_window(tmp_path: Path) -> None:
    ours = {"engine": "keras-jax", "backbone": "resnet50", "batch": 128, "plain": {"per_second": 3600.0, "compile_s": 40.0}}
    windows = [1000.0, 2000.0, 4500.0]
    peer = {**ours, "engine": "torch.compile", "plain": {"per_second": 2000.0, "compile_s": 9.0, "agree": False, "windows": windows}}
    store(tmp_path, "training", [ours, peer])
    assert "ResNet50 reached" in page(tmp_path)
    windows[2] = 4501.0
    store(tmp_path, "training", [ours, peer])
    assert "ResNet50 not told, one of the two was disturbed" in page(tmp_path)


def test_the_study_s_time_counts_only_where_one_sitting_ran_all_of_it(tmp_path: Path) -> None:
    whole = {"what": "study", "route": "resident", "wall_s": 400.0, "peers": True, "backbones": 1}
    run = {"what": "run", "backbone": "mobilenet", "state": "unfinished", "epochs": 3}
    store(tmp_path, "study-resident", [{**whole, "done": 0}, run])
    assert f"0 of 1 backbones have run; no sitting was long enough for all, so the time for all is {NOT_YET}" in page(tmp_path)
    store(tmp_path, "study-resident-2", [{**whole, "done": 1, "wall_s": 601.0}])
    assert "All in one sitting, 601 s: MISSED." in page(tmp_path)
    store(tmp_path, "study-resident-3", [{**whole, "done": 1, "wall_s": 599.0}])
    assert "All in one sitting, 599 s: reached." in page(tmp_path)


def test_training_gives_ratio_and_shares(tmp_path: Path) -> None:
    peer = {"engine": "torch.compile", "backbone": "resnet50", "batch": 256, "plain": {"per_second": 4000.0, "compile_s": 50.0}}
    ours = {**peer, "engine": "keras-jax", "plain": {"per_second": 3600.0, "compile_s": 40.0}, "input_share": 0.01, "augmentation_share": 0.2}
    stopped = {"engine": "keras-jax", "backbone": "xception", "batch": 256, "stopped": "did not end within 120 s"}
    store(tmp_path, "training", [ours, peer, stopped])
    text = page(tmp_path)
    assert "| ResNet50 | 256 | keras-jax | 3,600 | 0.90 | 40 | 1.0% | 20.0% |" in text
    unsteady = {**peer, "plain": {"per_second": 4000.0, "compile_s": 50.0, "agree": False, "windows": [100.0, 3000.0, 4000.0, 5000.0]}}
    store(tmp_path, "training", [ours, unsteady])
    text_of_unsteady = page(tmp_path)
    assert "| 3,600 | 0.90 (not a fair pair) |" in text_of_unsteady
    assert "4,000 (windows differ: 3,000 to 5,000)" in text_of_unsteady
    assert "| Xception | 256 | keras-jax | invalid: did not end within 120 s |" in text


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    whole = {"what": "study", "route": "resident", "wall_s": 400.0, "peers": True, "backbones": 2, "done": 1}
    times = {"images_per_second": 5000.0, "data_s": 5.0, "compile_s": 60.0, "fit_s": 90.0}
    recipe = {"weights": "none", "learning_rate": 1e-3, "schedule": "cosine", "batch_size": 32}
    accuracy = {"validation_accuracy": 0.95, "test_accuracy": 0.8}
    done = {"what": "run", "backbone": "mobilenet", "state": "done", "epochs": 30, "recipe": recipe, **times, **accuracy}
    store(tmp_path, "study-resident", [whole, done, {"what": "run", "backbone": "xception", "state": "unfinished", "epochs": 10}])
    text = page(tmp_path)
    assert "400 s of wall time, PyTorch's turns included, 1 of 2 backbones done" in text
    assert "| MobileNet | 30 | 32 | random start, rate 0.001 cosine | 5,000 | 5 | 60 | 90 | 0.950 | 0.800 |" in text
    assert "| Xception | 10 | | unfinished: the time was up |" in text


def test_the_committed_page_is_what_the_json_gives() -> None:
    assert (RESULTS / "gpu.md").read_text(encoding="utf-8") == page(RESULTS / "gpu")
