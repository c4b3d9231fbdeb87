"""The README's tables, made from the project's tables. `python -m tests.readme_tables` writes them; a test fails where they have drifted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cellclf.artifact.precisions import PRECISIONS
from cellclf.backbones import BACKBONES
from cellclf.cli.app import VERBS
from cellclf.data.crops import CROPS
from cellclf.data.datasets import DATASETS
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.scale import SCALE_KEYS
from cellclf.studies.table import STUDIES
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.tta import TTAS

README = Path(__file__).resolve().parent.parent / "README.md"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def commands() -> str:
    return table(["command", ""], [[f"`cellclf {name}`", summary] for name, summary in VERBS.items()])


def backbones() -> str:
    rows = [[f"`{row.name}`", row.title, row.image_size_px, f"{row.learning_rate:g}"] for row in BACKBONES.values()]
    return table(["--backbone", "network", "image size, px", "learning rate"], rows)


def datasets() -> str:
    rows = []
    for row in DATASETS.values():
        groups = "recovered from the pixels" if row.hidden_families else f"`{row.group_rule}`".replace("|", "\\|")
        rows.append([f"`{row.name}`", row.title, ", ".join(row.labels), groups, row.kaggle or "drawn by code"])
    return table(["--data", "", "labels", "groups", "from"], rows)


def augmentations() -> str:
    return table(["--augment", ""], [[f"`{row.name}`", row.description] for row in AUGMENTATIONS.values()])


def crops() -> str:
    return table(["--crop", ""], [[f"`{row.name}`", row.description] for row in CROPS.values()])


def ttas() -> str:
    return table(["--tta", ""], [[f"`{row.name}`", row.description] for row in TTAS.values()])


def precisions() -> str:
    rows = []
    for row in PRECISIONS.values():
        allowed = row.tolerance
        rows.append([f"`{row.name}`", f"{allowed.max_difference:g}", f"{allowed.mean_difference:g}", f"{allowed.flipped:.0%}", f"{allowed.golden:g}"])
    header = ["--precision", "largest difference allowed", "mean difference allowed", "clear labels that may flip", "verify allows"]
    return table(header, rows)


def devices() -> str:
    rows = [["`auto`", "a GPU where one really works, else the CPU; says what it took"]]
    rows += [[f"`{row.name}`", row.runs_as] for row in PROVIDERS.values()]
    return table(["--device", ""], [*rows, ["`N`", "GPU number N, as cuda"]])


def studies() -> str:
    rows = [[row.letter, f"`{row.name}`", row.title, row.data, len(row.variations), ", ".join(row.factors)] for row in STUDIES.values()]
    return table(["", "study", "", "data", "variations", "under study"], rows)


def scale() -> str:
    return table(["--scale", ""], [[f"`{name}=`", key.meaning] for name, key in SCALE_KEYS.items()])


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make for make in (commands, studies, scale, backbones, datasets, crops, augmentations, ttas, precisions, devices)
}


def with_tables(text: str) -> str:
    """The README with every table written anew."""
    for name, make in TABLES.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        assert found and closed, f"the README has no place for the table {name}"
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
