"""ONNX operators computed by JAX, channels last wherever it can be, so that XLA can join what follows a convolution to it.

Source of their meaning: the ONNX operator specification, opsets 13 to 17. What could mean something else is refused.
"""
