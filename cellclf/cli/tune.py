"""`cellclf tune`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cellclf.artifact.tuning import DEFAULT_DEVICES, Measured, Tuning
from cellclf.artifact.tuning import tune as tune_file
from cellclf.card import read_model_file
from cellclf.cli import options
from cellclf.cli.console import note, out, plain_table, print_json
from cellclf.cli.display import TrainingDisplay
from cellclf.errors import CellclfError
from cellclf.runtime.classifier import newest_model
from cellclf.runtime.plan import Plan, load_plan, plan_path
from cellclf.runtime.session import open_session

app = typer.Typer(pretty_exceptions_enable=False)


@app.command("tune")
def tune(
    model: Annotated[Path | None, typer.Argument(help="An exported .onnx file. Default: the newest in exported/.")] = None,
    devices: Annotated[
        str, typer.Option("--devices", help="Providers that may be used, as cpu,openvino. One whose numbers differ is left out.")
    ] = ",".join(DEFAULT_DEVICES),
    seconds: Annotated[float, typer.Option(min=1, help="Time to measure, about; opening comes on top.")] = 30,
    as_json: options.JsonOption = False,
) -> None:
    """Find what runs a file fastest on this machine, and remember it.

    Measures providers, threads, sessions and batches in turns. What beats the default by more than the noise is kept in the
    cache folder; predict uses it where neither --device nor --threads is given, serve where --device is not. Only providers
    that give the file's golden cases within its own tolerance are tried, so that tuning changes no numbers beyond that.
    """
    file = read_model_file(model or newest_model())
    wanted = [name.strip() for name in devices.split(",")]
    if "auto" in wanted:
        raise CellclfError("--devices: auto is no provider; name those to try, as cpu,openvino")
    for device in wanted if devices != ",".join(DEFAULT_DEVICES) else ():
        open_session(file.content, device=device, threads=1, precision=file.card.precision)  # what is asked for and cannot be had is an error
    with TrainingDisplay() as display:
        found = tune_file(file, devices=wanted, seconds=seconds, on_stage=display.stage)
    path = plan_path(file.fingerprint)
    kept, _ = load_plan(file.fingerprint)
    untried = kept if kept is not None and kept.device not in wanted and _pays(kept) >= _pays(found.plan) else None
    if as_json:
        print_json(json.dumps(_as_dict(found), indent=2))
    else:
        _show(found)
    if untried is None and found.plan is not None:  # after what was measured is shown: a cache folder may not let it be kept
        found.plan.write(path)
    elif untried is None:
        path.unlink(missing_ok=True)
    if as_json:
        return
    if untried is not None:
        out.print(f"{untried.device}, which was not tried, is as quick as anything here, as far as its plan says: it stays; {untried}")
    elif found.plan is None:
        out.print("the default is as good as anything here: no plan is kept")
    else:
        out.print(f"{found.plan}; kept in {path}")


def _show(found: Tuning) -> None:
    """Everything that was measured, and what was left out."""
    for title, measured in (("one image at a time", found.single), ("many images", found.many)):
        table = plain_table("setting", "images/s", "against the default", title=title)
        for each in measured:
            table.add_row(str(each.setting), f"{each.images_per_second_median:.4g}", f"{each.gain:.2f} ± {each.noise:.2f}")
        out.print(table)
    for name, reason in found.left_out.items():
        note(f"left out {name}: {reason}")


def _pays(plan: Plan | None) -> float:
    """How much a plan wins over the default, for one image and for many together."""
    return 1.0 if plan is None else plan.gain * plan.single_gain


def _as_dict(found: Tuning) -> dict[str, object]:
    def rows(measured: tuple[Measured, ...]) -> list[dict[str, object]]:
        return [asdict(each) | {"gain": each.gain, "noise": each.noise} for each in measured]

    plan = found.plan and found.plan.model_dump(mode="json")
    return {"single": rows(found.single), "many": rows(found.many), "left_out": dict(found.left_out), "plan": plan}
