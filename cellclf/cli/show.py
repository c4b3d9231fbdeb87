"""`cellclf show`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cellclf.card import Card, read_model_file
from cellclf.cli import options
from cellclf.cli.console import decision_lines, in_fp32, interval, out, print_json

app = typer.Typer(pretty_exceptions_enable=False)


@app.command("show")
def show(model: Annotated[Path, typer.Argument(help="An exported .onnx file.")], as_json: options.JsonOption = False) -> None:
    """Tell everything an exported file knows about itself.

    Reads the file only; proves that neither its network nor its card was changed.
    """
    file = read_model_file(model)
    card = file.card
    if as_json:
        print_json(card.model_dump_json(indent=2))
        return
    table = Table(box=None, show_header=False, title=f"{model}", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "sha256": f"{file.fingerprint} ({len(file.content) / 1e6:.2f} MB)",
        "labels": ", ".join(card.labels),
        "input": f"image: uint8 [batch, {card.height_px}, {card.width_px}, 3], RGB; resize {card.resize}; scaling {card.scaling}",
        "output": f"probabilities: float32 [batch, {len(card.labels)}]{_heatmaps(card)}",
        "network": f"{card.backbone}, {card.parameters:,} parameters, {card.precision}{in_fp32(card)}",
        "run": f"{card.name}, exported {card.created}",
        "data": f"{card.data}, protocol {card.protocol}, fingerprint {card.data_fingerprint[:16]}…",
        "recipe": f"fingerprint {card.recipe_fingerprint[:16]}…; " + ", ".join(f"{k} {v}" for k, v in card.recipe.items() if k != "data"),
        **{split: "  ".join(f"{name} {interval(value)}" for name, value in figures.items()) for split, figures in card.metrics.items()},
        "intervals": f"95 %, bootstrapped over {card.interval_unit}s",
        "leaks": "; ".join(card.leaks) or "none known",
        "parity": f"{card.parity.images} {card.parity.split} images: max {card.parity.max_difference:.1e}, mean {card.parity.mean_difference:.1e}, "
        f"{card.parity.flipped} labels flipped",
        "golden cases": f"{len(card.golden)}, tolerance {card.golden_tolerance:.1e}",
        "calibration": f"{card.calibration_images} training images" if card.calibration_images else "not needed",
        "speed": _speed(card),
        **(dict(decision_lines(card)) or {"decision": "the most probable label, always"}),
        "intended use": card.intended_use,
        "licence": card.licence,
        "versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "format": f"card {card.format}; network's sha256 {card.graph_sha256}",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    out.print(table)


def _heatmaps(card: Card) -> str:
    """The second output, where the file has one."""
    return "" if card.heatmap is None else f"; heatmaps: float32 [batch, {len(card.labels)}, {card.heatmap[0]}, {card.heatmap[1]}]"


def _speed(card: Card) -> str:
    """What export measured beside fp32; an fp32 file is beside nothing."""
    if (gain := card.benefit) is None:
        return "not measured beside fp32"
    rate = f"{gain.images_per_second:.0f} images/s in batches of {gain.batch} on {gain.threads} threads of {gain.cpu}, {gain.provider}"
    return f"{gain.ratio:.2f} × fp32: {rate}"
