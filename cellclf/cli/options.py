"""Options that several verbs share, and the data they ask for. Choices come from the tables."""

from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.backbones import BACKBONES
from cellclf.data.datasets import DATASETS
from cellclf.data.splits import PROTOCOLS, Fractions, Protocol
from cellclf.errors import DataError, UnknownNameError
from cellclf.runtime.providers import DEVICES

if TYPE_CHECKING:
    from cellclf.data.prepare import DataRequest

__all__ = [
    "BackboneOption",
    "DataOption",
    "DeviceOption",
    "FoldOption",
    "FractionsOption",
    "GroupRuleOption",
    "JsonOption",
    "ProtocolOption",
    "RunsOption",
    "SplitSeedOption",
    "data_request",
]

_DATA_PANEL = "Data"

BackboneOption = Annotated[str, typer.Option("--backbone", "-b", help=f"One of: {', '.join(BACKBONES)}.")]
DataOption = Annotated[
    str,
    typer.Option("--data", "-d", help=f"{', '.join(DATASETS)}; or a folder with one sub-folder a label; or a .csv.", rich_help_panel=_DATA_PANEL),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help=f"How to split: {', '.join(PROTOCOLS)} (random leaks). Default: official where there is a test set, else grouped.",
        rich_help_panel=_DATA_PANEL,
    ),
]
FractionsOption = Annotated[str, typer.Option("--fractions", help="Shares of train, validation and test, as A,B,C.", rich_help_panel=_DATA_PANEL)]
FoldOption = Annotated[str | None, typer.Option("--fold", help="K/N: test on fold K of N (protocol grouped).", rich_help_panel=_DATA_PANEL)]
SplitSeedOption = Annotated[int, typer.Option("--split-seed", help="Seed of the split.", rich_help_panel=_DATA_PANEL)]
GroupRuleOption = Annotated[
    str | None,
    typer.Option(
        "--group-rule",
        help=r"Regular expression over file paths whose groups name the patient or cell, as '(patient\d+)'.",
        rich_help_panel=_DATA_PANEL,
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help=f"{' | '.join(DEVICES)} (N: a GPU's number).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunsOption = Annotated[str, typer.Option("--runs", help="Folder of the run folders.", envvar="CELLCLF_RUNS")]


def known_protocol(name: str) -> Protocol:
    """The split protocol of that name; raises UnknownNameError."""
    for known in PROTOCOLS:
        if name == known:
            return known
    raise UnknownNameError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")


def data_request(
    data: str,
    *,
    protocol: str | None = None,
    fractions: str = "0.64,0.16,0.20",
    fold: str | None = None,
    split_seed: int = 0,
    group_rule: str | None = None,
    on_bad_image: str = "error",
    limit_per_label: int | None = None,
    images_fraction: float = 1.0,
) -> "DataRequest":
    """Options as a DataRequest; raises DataError or UnknownNameError naming the wrong one."""
    if protocol is not None:
        known_protocol(protocol)
    if on_bad_image not in ("error", "skip"):
        raise DataError(f"--on-bad-image {on_bad_image!r} is not known; give error or skip")
    from cellclf.data.prepare import DataRequest

    return DataRequest.model_validate(
        {
            "data": data,
            "protocol": protocol,
            "fractions": _fractions(fractions),
            "fold": fold,
            "split_seed": split_seed,
            "group_rule": group_rule,
            "on_bad_image": on_bad_image,
            "limit_per_label": limit_per_label,
            "images_fraction": images_fraction,
        }
    )


def _fractions(text: str) -> Fractions:
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(f"--fractions {text!r} must be three numbers, as 0.64,0.16,0.20") from error
    return train, validation, test
