"""--crop, apart from the other options: its table needs NumPy, and who has that before Typer's own imports starts later (benchmarks/test_start_up)."""

from typing import Annotated

import typer

from cellclf.data.crops import CROPS

__all__ = ["CropOption"]

CropOption = Annotated[
    str,
    typer.Option(
        "--crop",
        help=f"What the network sees: {'; '.join(f'{row.name} = {row.description}' for row in CROPS.values())}.",
        rich_help_panel="Data",
    ),
]
