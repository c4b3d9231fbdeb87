"""A network whose weights no longer change, made quick for `predict`: constants let TensorFlow fold batch-norm into the convolutions before it."""

from typing import Any

import numpy.typing as npt

from cellclf.training.framework import backend, require_keras

__all__ = ["with_constant_weights"]


class _Constant:
    """A model's forward pass as one graph of constants."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def predict_on_batch(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """As Keras' method of that name."""
        import tensorflow

        found: npt.NDArray[Any] = self._run(tensorflow.constant(batch))[0].numpy()
        return found


def with_constant_weights(model: Any) -> Any:
    """What predicts as `model`, of one input and one output, does with the weights it has now, to float rounding; on JAX the model itself.

    On a CPU it is a fifth quicker (benchmarks/test_frozen.py), and takes the weights' memory once more.
    """
    require_keras()
    if backend() != "tensorflow":
        return model
    import tensorflow
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    (wanted,) = model.inputs
    signature = [tensorflow.TensorSpec(wanted.shape, wanted.dtype)]
    traced = tensorflow.function(lambda images: model(images, training=False), input_signature=signature).get_concrete_function()
    return _Constant(convert_variables_to_constants_v2(traced))
