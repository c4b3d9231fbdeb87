"""`cellclf data show`, `cellclf data audit` and `cellclf data fetch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.cli import options
from cellclf.cli.console import err, note, out, plain_table, print_json, relative
from cellclf.cli.crop_option import CropOption
from cellclf.cli.display import TrainingDisplay
from cellclf.data.crops import CROPS, View
from cellclf.data.datasets import DATASETS, find, locate
from cellclf.data.manifest import SPLITS
from cellclf.data.prepare import prepare
from cellclf.errors import DataError

if TYPE_CHECKING:
    from cellclf.data.audit.findings import Audit

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look at a data set and its splits, or fetch it."""


@app.command("show")
def show(
    data: Annotated[str | None, typer.Argument(help=f"{', '.join(DATASETS)}, a folder or a .csv. Default: list the named sets.")] = None,
    protocol: options.ProtocolOption = None,
    fractions: options.FractionsOption = "0.64,0.16,0.20",
    fold: options.FoldOption = None,
    split_seed: options.SplitSeedOption = 0,
    group_rule: options.GroupRuleOption = None,
    on_bad_image: Annotated[str, typer.Option(help="error | skip")] = "skip",
    crop: CropOption = "none",
    image_size: Annotated[int, typer.Option(min=16, help="Pixels a side to which images are decoded, to find those that cannot be.")] = 128,
    as_json: options.JsonOption = False,
) -> None:
    """Show labels, splits, groups, leaks and broken files of a data set.

    Every image is decoded (once; the result is kept), so a broken one is found here rather than in training.
    """
    if data is None:
        _list()
        return
    request = options.data_request(
        data, protocol=protocol, fractions=fractions, fold=fold, split_seed=split_seed, group_rule=group_rule, on_bad_image=on_bad_image
    )
    with TrainingDisplay() as display:
        record = prepare(request, view=View(image_size, image_size, CROPS.find(crop).name), on_progress=display.stage).record
    if as_json:
        print_json(record.model_dump_json(indent=2))
        return
    out.print(f"{record.name} in {record.root}")
    table = plain_table(record.protocol, *record.labels, "all")
    for split in SPLITS:
        counts = record.counts[split]
        table.add_row(split, *(str(counts[label]) for label in record.labels), str(sum(counts.values())))
    out.print(table)
    out.print(f"groups: {record.groups if record.groups_known else 'unknown'}   fingerprint {record.fingerprint[:16]}   {record.licence}")
    for leak in record.leaks:
        out.print(str(leak), style="red")
    for text in record.notes:
        out.print(text, style="yellow")
    for image in record.skipped:
        out.print(f"cannot be used: {image.path}: {image.reason}", style="red")
    if record.skipped:
        raise typer.Exit(3)


@app.command("audit")
def audit(
    data: Annotated[str, typer.Argument(help=f"{', '.join(DATASETS)}, a folder or a .csv.")],
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder to write to. Default: audit/NAME.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where the source's own split leaks.")] = False,
    group_rule: options.GroupRuleOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Look for copies, leaks, label conflicts, broken files and shortcuts; write a groups column that --data takes, and a page.

    Copies are found in the pixels: rotated, mirrored, shifted, sheared, brighter or darker. Labels and names have no part in it.
    """
    from cellclf.data.audit.inspect import audit as inspect
    from cellclf.data.audit.page import write_audit

    with TrainingDisplay() as display:
        audited = inspect(data, group_rule=group_rule, on_progress=display.stage)
    found = audited.audit
    page = write_audit(audited, Path(output) if output else Path("audit") / found.name)
    if as_json:
        print_json(found.model_dump_json(indent=2))
    else:
        _print_audit(found)
        out.print(
            f"page {relative(page)}   groups {relative(page.parent / 'groups.csv')}: cellclf train --data {relative(page.parent / 'groups.csv')}"
        )
    if strict and found.leaks:
        raise DataError(f"the split of {found.name} leaks: {'; '.join(found.leaks)}")


def _print_audit(found: "Audit") -> None:
    out.print(f"{found.name}: {found.files} files, {found.families} originals; the largest family has {found.largest_family}")
    table = plain_table("", *next(iter(found.counts.values())))
    for split, labels in found.counts.items():
        table.add_row(split, *(str(count) for count in labels.values()))
    out.print(table)
    pairs = f"near duplicates: {found.near_duplicates} pairs   augmented copies: {found.augmented_pairs} pairs"
    out.print(f"byte-identical: {len(found.duplicates)} sets   {pairs}")
    for leak in found.leaks:
        out.print(f"LEAKS: {leak}", style="red")
    if not found.leaks and len(found.counts) > 1:
        out.print("nothing that was found is on two sides of the source's own split", style="green")
    for conflict in found.label_conflicts[:5]:
        out.print(f"two labels: {conflict.kind}: {', '.join(f'{label} {count}' for label, count in conflict.images.items())}", style="yellow")
    if len(found.label_conflicts) > 5:
        out.print(f"two labels: {len(found.label_conflicts) - 5} more", style="yellow")
    for shortcut in found.shortcuts:
        text = f"{shortcut.balanced_accuracy:.3f} [{shortcut.low:.3f}, {shortcut.high:.3f}], chance {shortcut.chance:.3f}"
        out.print(f"label from {shortcut.feature} alone: {text}", style="red" if shortcut.suspicious else None)
    for image in found.broken:
        err.print(f"broken: {image.path}: {image.reason}", style="red")


@app.command("fetch")
def fetch(name: Annotated[str, typer.Argument(help=f"One of: {', '.join(DATASETS)}.")]) -> None:
    """Draw or download a named data set, unless it is here already, and print where it is."""
    root = locate(DATASETS.find(name))
    note(f"{name} is at")
    out.print(str(root))


def _list() -> None:
    table = plain_table("name", "what", "labels", "where")
    for dataset in DATASETS.values():
        place = find(dataset)
        table.add_row(dataset.name, dataset.title, ", ".join(dataset.labels), str(place) if place else "not here: cellclf data fetch " + dataset.name)
    out.print(table)
