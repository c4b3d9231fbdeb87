"""`cellclf demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cellclf.cli.console import clock, err, interval, out, plain_table, relative
from cellclf.cli.display import TrainingDisplay
from cellclf.data.datasets import DATASETS, locate
from cellclf.data.prepare import DataRequest
from cellclf.runtime.classifier import EXPORTED, Classifier, Prediction
from cellclf.storage import new_file
from cellclf.training.recipe import Recipe, make_recipe
from cellclf.training.run import Run

app = typer.Typer(pretty_exceptions_enable=False)

_SHOWN = 2


def demo_recipe() -> Recipe:
    """A small network from a random start, so that neither ImageNet weights nor a network connection is needed."""
    return make_recipe(
        "mobilenet025",
        DataRequest(data="sample"),
        image_size_px=96,
        weights="none",
        epochs=25,
        batch_size=8,
        patience=0,
        schedule="cosine",
        learning_rate=1e-2,
        dropout=0.2,
        hidden=(),
        augmentation="light",
    )


@app.command("demo")
def demo(folder: Annotated[Path, typer.Option(help="Where runs/ and exported/ are made.")] = Path()) -> None:
    """Do the whole job on the built-in sample.

    Draws four kinds of white blood cell on smears, trains a small network, evaluates it, exports it, proves the file, and
    predicts with it.
    """
    from cellclf.artifact.export import export
    from cellclf.artifact.verify import verify
    from cellclf.evaluation.picture import confusion_figure
    from cellclf.training.train import train

    started = time.monotonic()
    name = time.strftime("demo-%Y%m%d-%H%M%S")
    _step(1, "draw the sample: white cells on smears, 12 slides to train and 4 others to test")
    sample = locate(DATASETS["sample"])
    _step(2, "train MobileNet 0.25 from a random start")
    with TrainingDisplay() as display:
        run = train(demo_recipe(), folder / "runs" / name, progress=display)
    _step(3, "evaluate on the test slides")
    picture = run.folder / "confusion.png"
    test = run.metrics().test
    with new_file(picture) as temporary:
        confusion_figure(test, title=f"{name} on the sample's test slides").savefig(temporary, dpi=120, format="png")
    _step(4, "export, and compare the file with the trained network")
    with TrainingDisplay() as display:
        exported = export(run, folder / EXPORTED / f"{name}.onnx", on_stage=display.stage)
    _step(5, "verify the file: replay its golden cases")
    proof = verify(exported.path, device="cpu")
    _step(6, "predict images of the test slides from the file, without TensorFlow's help")
    classifier = Classifier(exported.path, device="cpu")
    images = [path for label in classifier.labels for path in sorted((sample / "TEST" / label).iterdir())[:_SHOWN]]
    _print_predictions([record for record in classifier.predict_many(images) if isinstance(record, Prediction)])
    out.print(
        f"test accuracy {interval(test.accuracy)} on {test.images} images of {test.groups} slides; "
        f"largest difference to the trained network {exported.card.parity.max_difference:.1e}, "
        f"to the golden cases {proof.max_difference:.1e}; {clock(time.monotonic() - started)} in all"
    )
    _print_paths(run, exported.path, picture, sample)


def _step(number: int, text: str) -> None:
    err.print(f"{number}/6 {text}", style="bold")


def _print_predictions(records: list[Prediction]) -> None:
    table = plain_table("image", "label", "probability")
    for record in records:
        path = Path(record.path)
        table.add_row(f"{path.parent.name}/{path.name}", record.label, f"{record.probability:.4f}")
    out.print(table)


def _print_paths(run: Run, model: Path, picture: Path, sample: Path) -> None:
    made = {
        "sample images": sample,
        "run": run.folder,
        "curves": run.folder / "curves.png",
        "confusion matrix": picture,
        "metrics": run.folder / "metrics.json",
        "model": model,
    }
    for what, path in made.items():
        out.print(f"{what:17s} {relative(path)}")
    out.print(f"next: cellclf predict {relative(sample)}/TEST/MONOCYTE   or: cellclf show {relative(model)}")
