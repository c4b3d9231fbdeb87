"""The study backbones in PyTorch as Keras builds them, with the same head and scaling: the peers. tests compare multiply-adds with ours.

MobileNet and Xception are written out; ResNet50, InceptionV3 and VGG16 are torchvision's, ResNet50 with its strides where Keras (v1) has them.
Padding is symmetric where Keras pads one side more; sizes and multiply-adds are the same.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cellclf.backbones import BACKBONES

__all__ = ["WRITTEN", "build"]


class Scaled(nn.Module):  # type: ignore[misc]  # PyTorch is not installed here
    """uint8 [batch, H, W, 3] → scaling → features → average → dense (ReLU) → classes: probabilities float32, or logits while training."""

    def __init__(self, name: str, *, hidden: Iterable[int], classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.caffe = BACKBONES[name].scaling == "caffe"
        self.features, width = _FEATURES[name]()
        head: list[nn.Module] = []
        for units in hidden:
            head += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.head = nn.Sequential(*head, nn.Dropout(dropout), nn.Linear(width, classes))
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Channels stay last in memory: permuting [batch, H, W, 3] is a channels_last tensor."""
        pixels = image.permute(0, 3, 1, 2).to(self.mean.dtype)
        pixels = pixels.flip(1) - self.mean if self.caffe else pixels / 127.5 - 1.0
        values = self.head(self.features(pixels).mean(dim=(2, 3)))
        return values if self.training else values.float().softmax(dim=1)


def build(name: str, *, hidden: Iterable[int] = (8,), classes: int = 4, seed: int = 0) -> Any:
    """The network of a study backbone with random weights drawn from the seed."""
    torch.manual_seed(seed)
    network = Scaled(name, hidden=hidden, classes=classes)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _convolution(channels: int, out: int, size: int, *, stride: int = 1, groups: int = 1, padding: int | None = None) -> list[nn.Module]:
    pad = size // 2 if padding is None else padding
    return [nn.Conv2d(channels, out, size, stride=stride, padding=pad, groups=groups, bias=False), nn.BatchNorm2d(out, eps=1e-3)]


def _mobilenet() -> tuple[nn.Module, int]:
    layers: list[nn.Module] = [*_convolution(3, 32, 3, stride=2), nn.ReLU6()]
    channels = 32
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)):
        layers += [*_convolution(channels, channels, 3, stride=stride, groups=channels), nn.ReLU6(), *_convolution(channels, out, 1), nn.ReLU6()]
        channels = out
    return nn.Sequential(*layers), channels


class _Xception(nn.Module):  # type: ignore[misc]  # PyTorch is not installed here
    """One block: up to three separable convolutions (ReLU before each but an entry block's first), then pooling and a shortcut."""

    def __init__(self, widths: tuple[int, ...], *, first_relu: bool = True, down: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, (channels, out) in enumerate(itertools.pairwise(widths)):
            if position or first_relu:
                layers.append(nn.ReLU())
            layers += [nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), *_convolution(channels, out, 1)]
        if down:
            layers.append(nn.MaxPool2d(3, 2, 1))
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*_convolution(widths[0], widths[-1], 1, stride=2)) if down else nn.Identity()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.body(values) + self.shortcut(values)


def _xception() -> tuple[nn.Module, int]:
    def separable(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), *_convolution(channels, out, 1), nn.ReLU()]

    return nn.Sequential(
        *_convolution(3, 32, 3, stride=2, padding=0),
        nn.ReLU(),
        *_convolution(32, 64, 3, padding=0),
        nn.ReLU(),
        _Xception((64, 128, 128), first_relu=False, down=True),
        _Xception((128, 256, 256), down=True),
        _Xception((256, 728, 728), down=True),
        *[_Xception((728, 728, 728, 728)) for _ in range(8)],
        _Xception((728, 728, 1024), down=True),
        *separable(1024, 1536),
        *separable(1536, 2048),
    ), 2048


def _resnet50() -> tuple[nn.Module, int]:
    import torchvision

    whole = torchvision.models.resnet50(weights=None)
    for stage in (whole.layer2, whole.layer3, whole.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return nn.Sequential(*list(whole.children())[:-2]), 2048


def _inceptionv3() -> tuple[nn.Module, int]:
    import torchvision

    whole = torchvision.models.inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    return nn.Sequential(*[child for name, child in whole.named_children() if name not in ("avgpool", "dropout", "fc")]), 2048


def _vgg16() -> tuple[nn.Module, int]:
    import torchvision

    return torchvision.models.vgg16(weights=None).features, 512


_FEATURES: dict[str, Any] = {"mobilenet": _mobilenet, "inceptionv3": _inceptionv3, "xception": _xception, "resnet50": _resnet50, "vgg16": _vgg16}

WRITTEN = frozenset(_FEATURES)
"""The backbones that there are."""
