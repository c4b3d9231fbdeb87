"""The two ways to a depthwise convolution give the same numbers, and the faster is taken only then."""

import importlib.util
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu.depthwise import depthwise_way, faster, shifted_depthwise
from benchmarks.gpu.study import training_row


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("side", [8, 9])
def test_shifted_products_are_a_grouped_convolution(stride: int, padding: str, side: int) -> None:
    import jax

    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(2, side, side, 5)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, 5, 1)).astype(np.float32)
    found = shifted_depthwise(jax.numpy.asarray(inputs), jax.numpy.asarray(kernel), strides=(stride, stride), padding=padding)
    grouped = jax.lax.conv_general_dilated(
        inputs,
        kernel.reshape(3, 3, 1, 5),
        (stride, stride),
        padding.upper(),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=5,
    )
    np.testing.assert_allclose(found, grouped, atol=1e-5)


def row(way: str, ms: float, slope: float = 2.0) -> dict[str, Any]:
    return {"way": way, "ms": ms, "loss": 1.0, "slope": slope}


def test_the_faster_way_counts_only_where_both_agree() -> None:
    assert faster([row("grouped", 3.0), row("shifted", 1.0)]) == "shifted"
    assert faster([row("grouped", 1.0), row("shifted", 3.0)]) == "grouped"
    assert faster([row("grouped", 3.0), row("shifted", 1.0, slope=2.2)]) == "grouped"


def test_an_unknown_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_GPU_DEPTHWISE", "quick")
    with pytest.raises(SystemExit, match="'quick'; grouped and shifted are known"):
        depthwise_way()


def test_a_run_s_epochs_are_the_windows_of_its_training_speed() -> None:
    history = [{"images_per_second": speed} for speed in (100.0, 1000.0, 1010.0, 1005.0)]
    recipe = {"backbone": "resnet50", "batch_size": 128}
    run = {"history": history, "images_per_second": 1002.5, "compile_s": 30.0, "device": "cuda:0", "recipe": recipe, "input_share": 0.01}
    found = training_row({**run, "depthwise": "shifted"})
    assert found["plain"]["agree"]
    assert (found["backbone"], found["batch"], found["plain"]["per_second"]) == ("resnet50", 128, 1002.5)
    history[-1]["images_per_second"] = 900.0
    assert not training_row({**run, "depthwise": "shifted"})["plain"]["agree"]
