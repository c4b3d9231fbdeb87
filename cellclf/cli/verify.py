"""`cellclf verify`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cellclf.artifact.verify import verify as verify_file
from cellclf.cli import options
from cellclf.cli.console import note, out, print_json

app = typer.Typer(pretty_exceptions_enable=False)


@app.command("verify")
def verify(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file.")],
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Prove that a file gives here what it gave where it was made.

    Checks that neither network nor card was changed, and replays the golden cases in batches of 1, 2, 7 and 32.
    """
    found = verify_file(model, device=device, on_note=note)
    if as_json:
        print_json(json.dumps(asdict(found) | {"path": str(found.path)}, indent=2))
        return
    out.print(
        f"verified {found.path} on {found.provider}: {found.cases} golden cases in batches of {', '.join(map(str, found.batch_sizes))}, "
        f"largest difference {found.max_difference:.1e} (allowed {found.tolerance:.1e})"
    )
    out.print(f"sha256 {found.fingerprint}")
