"""LitServe with dynamic batching around an ONNX Runtime session. Arguments: model, port, height, width, labels joined by commas.

Runs in an environment of its own: litserve, onnxruntime, pillow, numpy.
"""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request
from PIL import Image

model, port, height, width, labels = sys.argv[1:]
names = labels.split(",")


class Classify(litserve.LitAPI):  # type: ignore[misc]  # LitServe is not installed here
    """Decode, batch, run, name the best."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: Request) -> Any:
        image = Image.open(request["image"].file).convert("RGB").resize((int(width), int(height)), Image.Resampling.BILINEAR)
        return request["image"].filename, np.asarray(image)

    def batch(self, inputs: list[Any]) -> Any:
        return [name for name, _ in inputs], np.stack([image for _, image in inputs])

    def predict(self, batch: Any) -> Any:
        found, images = batch
        rows = self.session.run(["probabilities"], {"image": images})[0]
        return list(zip(found, rows.tolist(), strict=True))

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> Any:
        name, row = output
        return [{"path": name, "label": names[int(np.argmax(row))], "probabilities": dict(zip(names, row, strict=True))}]


if __name__ == "__main__":
    server = litserve.LitServer(Classify(max_batch_size=16, batch_timeout=0.002), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
