"""The lines for a client of Triton in docs/triton.md, run against our own service, which speaks the same protocol."""

import re
from pathlib import Path
from typing import Any

from cellclf import Classifier
from cellclf.artifact.triton import write_triton
from cellclf.card import read_model_file
from tests.serving.conftest import SHIPPED, picture, serving

DOCUMENT = SHIPPED.parent.parent / "docs" / "triton.md"


def test_the_documents_client_gets_the_labels_that_predict_gives(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number))
    written = write_triton(read_model_file(SHIPPED), tmp_path / "models", name="cells")
    (lines,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"repository": tmp_path / "models", "paths": paths}
    with serving(f"cells={written.path / 'model.onnx'}") as running:
        names["address"] = running.server.address.removeprefix("http://")
        exec(compile(lines, DOCUMENT.name, "exec"), names)
    expected = [Classifier(SHIPPED, device="cpu").predict(path) for path in paths]
    assert names["labels"] == [record.label for record in expected]
    assert names["decision"].abstained.tolist() == [record.abstained for record in expected]
