"""Which nodes are left in the optimised graph of each backbone's file in each precision, and why each of them is."""

from typing import Any

import numpy as np
import onnx
import pytest

from cellclf.artifact.convert import to_onnx
from cellclf.artifact.golden import golden_image
from cellclf.artifact.leftovers import leftovers, optimised_graph
from cellclf.artifact.precisions import PRECISIONS
from cellclf.backbones import BACKBONES
from cellclf.data.prepare import DataRequest
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import make_recipe

IN_EVERY_FILE = {"Transpose": 1}
"""Transpose: images are [batch, H, W, 3] by contract and ONNX convolutions want planes. It moves bytes, before they become floats."""

PADDED_START = {"Sub": 1}
"""Sub: the first convolution pads with zeros, which are the pixels' centre; only without padding does that go into its bias."""

IN_EVERY_INT8_FILE = {"Transpose": 2, "QuantizeLinear": 1, "DequantizeLinear": 1}
"""One into the integer kernels' channels-last layout and one out of it; quantized once behind the narrow start, back once before the head."""

ODD_SUMS = {"Add": 9}
"""Xception's sums of 728 channels: no multiple of the 16 that ONNX Runtime's blocked layout wants, so they are not fused into convolutions."""

LAST_POOL = {"Transpose": 2}
"""Before and behind InceptionV3's last average pool: ONNX Runtime leaves that one in planes. Of 192 channels of 8 × 8 it is next to nothing."""

SUMS_READ_TWICE = {"QuantizeLinear": 11, "DequantizeLinear": 11}
"""Xception rectifies each sum on one way and not on the other, so that one of both is quantized anew."""

PADDED = {"mobilenet", "mobilenetv2", "mobilenet025", "resnet50", "vgg16"}


def known(backbone: str, precision: str) -> dict[str, int]:
    """Leftovers that have one of the reasons above."""
    reasons = [IN_EVERY_FILE]
    reasons += [PADDED_START] if backbone in PADDED else []
    reasons += [IN_EVERY_INT8_FILE] if precision == "int8" else []
    reasons += [LAST_POOL] if (backbone, precision) == ("inceptionv3", "int8") else []
    if backbone == "xception":
        reasons += [SUMS_READ_TWICE] if precision == "int8" else [ODD_SUMS]
    counts: dict[str, int] = {}
    for reason in reasons:
        for operator, count in reason.items():
            counts[operator] = counts.get(operator, 0) + count
    return counts


def small(backbone: str) -> Any:
    """A random network of the smallest sensible size, exported in fp32."""
    require_keras("tensorflow").utils.clear_session()
    size = max(64, BACKBONES[backbone].min_image_size_px)
    recipe = make_recipe(backbone, DataRequest(data="sample"), image_size_px=size, weights="none")
    return to_onnx(build_network(recipe, classes=4, weights=None, steps_per_epoch=1).whole)


IN_MINUTES = {"mobilenet", "mobilenetv2", "inceptionv3", "vgg16", "xception"}
"""Networks that the others stand for where time is short."""


@pytest.mark.parametrize("backbone", [pytest.param(name, marks=pytest.mark.slow) if name in IN_MINUTES else name for name in BACKBONES])
def test_nothing_is_left_in_the_optimised_graph_but_what_is_known(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # How weights are rounded is nothing that the graph shows, and takes minutes.
    monkeypatch.setattr("cellclf.artifact.quantize.round_convolutions", lambda model, *_, **__: model)
    model = small(backbone)
    _, height, width, _ = (dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim)
    images = np.stack([golden_image(seed, height_px=height, width_px=width) for seed in range(2)])
    found = {}
    for row in PRECISIONS.values():
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        found[row.name] = leftovers(row.convert(copy, images).SerializeToString())
    assert found == {name: known(backbone, name) for name in PRECISIONS}
    assert not {node.op_type for node in optimised_graph(model.SerializeToString()).graph.node} & {"BatchNormalization", "Pad", "Identity"}
