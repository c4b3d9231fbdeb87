"""--crop, apart from the other options: its table needs NumPy, and with that before Typer's own imports a verb starts later."""

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
