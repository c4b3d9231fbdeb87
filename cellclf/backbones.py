"""BACKBONES: one row = one backbone. Adding a row here is all it takes for every command, test and benchmark to know it.

Plain data: importing this loads no framework. `builder` is the dotted name of a function with Keras Applications' arguments.
"""

from dataclasses import dataclass, field
from typing import Literal

from cellclf.tables import Table

__all__ = ["BACKBONES", "Backbone", "PixelScaling"]

PixelScaling = Literal["tf", "caffe", "torch"]
"""Keras Applications' names: tf = x / 127.5 − 1; caffe = BGR minus the ImageNet mean; torch = (x / 255 − mean) / std."""

KERAS_APPLICATIONS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network without its classifier.

    name: what a user types. title: as the papers write it.
    builder, arguments: dotted name of a Keras function called with include_top=False, weights=None, input_shape, pooling="avg", and `arguments`.
    image_size_px: height and width of the published network; min_image_size_px: the smallest it can take.
    scaling: what its ImageNet weights expect of pixels.
    learning_rate: Adam's, as the studies used it for this backbone (a moderate one where they did not).
    weights_url, weights_md5: ImageNet weights without the classifier (md5 as Keras publishes it, None where it does not).
    """

    name: str
    title: str
    builder: str
    image_size_px: int
    min_image_size_px: int
    scaling: PixelScaling
    learning_rate: float
    weights_url: str
    weights_md5: str | None
    arguments: dict[str, float] = field(default_factory=dict)

    @property
    def weights_filename(self) -> str:
        """The name under which Keras publishes and caches the ImageNet weights."""
        return self.weights_url.rpartition("/")[2]


BACKBONES: Table[Backbone] = Table(
    "backbone",
    [
        Backbone(
            name="mobilenet",
            title="MobileNet",
            builder="keras.applications.MobileNet",
            image_size_px=224,
            min_image_size_px=32,
            scaling="tf",
            learning_rate=5e-5,
            weights_url=f"{KERAS_APPLICATIONS}/mobilenet/mobilenet_1_0_224_tf_no_top.h5",
            weights_md5=None,
        ),
        Backbone(
            name="inceptionv3",
            title="InceptionV3",
            builder="keras.applications.InceptionV3",
            image_size_px=299,
            min_image_size_px=75,
            scaling="tf",
            learning_rate=5e-5,
            weights_url=f"{KERAS_APPLICATIONS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="bcbd6486424b2319ff4ef7d526e38f63",
        ),
        Backbone(
            name="xception",
            title="Xception",
            builder="keras.applications.Xception",
            image_size_px=299,
            min_image_size_px=71,
            scaling="tf",
            learning_rate=1e-4,
            weights_url=f"{KERAS_APPLICATIONS}/xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="b0042744bf5b25fce3cb969f33bebb97",
        ),
        Backbone(
            name="resnet50",
            title="ResNet50",
            builder="keras.applications.ResNet50",
            image_size_px=224,
            min_image_size_px=32,
            scaling="caffe",
            learning_rate=1e-5,
            weights_url=f"{KERAS_APPLICATIONS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="4d473c1dd8becc155b73f8504c6f6626",
        ),
        Backbone(
            name="vgg16",
            title="VGG16",
            builder="keras.applications.VGG16",
            image_size_px=224,
            min_image_size_px=32,
            scaling="caffe",
            learning_rate=1e-5,
            weights_url=f"{KERAS_APPLICATIONS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="6d6bbae143d832006294945121d1f1fc",
        ),
        Backbone(
            name="mobilenetv2",
            title="MobileNetV2",
            builder="keras.applications.MobileNetV2",
            image_size_px=224,
            min_image_size_px=32,
            scaling="tf",
            learning_rate=5e-4,
            weights_url=f"{KERAS_APPLICATIONS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            weights_md5=None,
        ),
        Backbone(
            name="mobilenet025",
            title="MobileNet 0.25",
            builder="keras.applications.MobileNet",
            arguments={"alpha": 0.25},
            image_size_px=224,
            min_image_size_px=32,
            scaling="tf",
            learning_rate=2e-3,
            weights_url=f"{KERAS_APPLICATIONS}/mobilenet/mobilenet_2_5_224_tf_no_top.h5",
            weights_md5=None,
        ),
    ],
)
