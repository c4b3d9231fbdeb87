"""What most people write: a FastAPI handler around an ONNX Runtime session. Arguments: model, port, height, width, labels joined by commas."""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

app = FastAPI()
model, port, height, width, labels = sys.argv[1:]
names = labels.split(",")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@app.post("/predict")
def predict(image: UploadFile) -> list[dict[str, object]]:
    """Decode, run, name the best; FastAPI runs it in a thread of its pool."""
    pixels = Image.open(image.file).convert("RGB").resize((int(width), int(height)), Image.Resampling.BILINEAR)
    row = session.run(["probabilities"], {"image": np.asarray(pixels)[None]})[0][0]
    return [{"path": image.filename, "label": names[int(row.argmax())], "probabilities": dict(zip(names, row.tolist(), strict=True))}]


@app.get("/health")
async def health() -> str:
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
