"""The exported file: Keras → ONNX in a ladder of precisions, parity with the trained network, and verification anywhere.

`verify` and `golden` load no framework; `export`, `convert` and `precisions` belong to the export half.
"""
