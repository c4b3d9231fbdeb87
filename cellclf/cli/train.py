"""`cellclf train`."""

import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.text import Text

from cellclf.cli import options
from cellclf.cli.console import clock, err, has_not_learned, metrics_lines, note, out, plain_table, print_json, relative
from cellclf.cli.crop_option import CropOption
from cellclf.cli.display import TrainingDisplay
from cellclf.errors import CellclfError, StoredFileError
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.pace import AUTO, quickest
from cellclf.training.recipe import Recipe, TrainingPrecision, make_recipe
from cellclf.training.run import Run, Setup, find_run
from cellclf.training.tta import TTAS

app = typer.Typer(pretty_exceptions_enable=False)

_NETWORK, _FIT, _RUN = "Network", "Training", "Run"
_RESUME_ALLOWS = {"resume", "runs", "as_json"}
_RECIPE_ALLOWS = {"recipe_file", "name", "runs", "as_json"}


@app.command("train")
def train(
    context: typer.Context,
    backbone: options.BackboneOption = "mobilenet",
    data: options.DataOption = "blood-cells",
    protocol: options.ProtocolOption = None,
    fractions: options.FractionsOption = "0.64,0.16,0.20",
    fold: options.FoldOption = None,
    split_seed: options.SplitSeedOption = 0,
    group_rule: options.GroupRuleOption = None,
    on_bad_image: Annotated[str, typer.Option(help="error | skip images that cannot be read (recorded).", rich_help_panel="Data")] = "error",
    limit: Annotated[int | None, typer.Option(help="At most so many images a label and source split.", rich_help_panel="Data")] = None,
    images_fraction: Annotated[
        float, typer.Option(help="Share of the images of each label and source split that is used.", rich_help_panel="Data")
    ] = 1.0,
    crop: CropOption = "none",
    hidden: Annotated[str, typer.Option(help="Units of the dense layers, as 16 or 8,8; or none.", rich_help_panel=_NETWORK)] = "16",
    dropout: Annotated[float, typer.Option(help="Dropout before the softmax.", rich_help_panel=_NETWORK)] = 0.5,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side. Default: the backbone's own.", rich_help_panel=_NETWORK)] = None,
    weights: Annotated[str, typer.Option(help="imagenet | none (a random start) | FILE.", rich_help_panel=_NETWORK)] = "imagenet",
    freeze: Annotated[
        str, typer.Option(help="none | all | all-but-N: only the backbone's last N layers learn. Frozen batch norm infers.", rich_help_panel=_NETWORK)
    ] = "none",
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Adam's. Default: the backbone's, from the studies.", rich_help_panel=_FIT)
    ] = None,
    tta: Annotated[
        str,
        typer.Option(
            "--tta", help=f"{', '.join(TTAS)}: test-time augmentation, the answer is the mean over views of the image.", rich_help_panel=_FIT
        ),
    ] = "none",
    schedule: Annotated[str, typer.Option(help="constant | cosine (to zero over all epochs).", rich_help_panel=_FIT)] = "constant",
    epochs: Annotated[int, typer.Option(help="At most so many.", rich_help_panel=_FIT)] = 30,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Images a step. auto: what trains quickest here, measured once.", rich_help_panel=_FIT)
    ] = "32",
    patience: Annotated[
        int,
        typer.Option(help="Stop after so many epochs without a lower validation loss, keep the best; 0: never, keep the last.", rich_help_panel=_FIT),
    ] = 5,
    class_weight: Annotated[str, typer.Option(help="none | balanced.", rich_help_panel=_FIT)] = "none",
    logit_adjustment: Annotated[
        str, typer.Option(help="none | images | groups: call labels of few images or groups as often as they deserve.", rich_help_panel=_FIT)
    ] = "none",
    logit_adjustment_strength: Annotated[
        float, typer.Option(help="Tau: 1 = as far as the shares of images or groups say; more goes further.", rich_help_panel=_FIT)
    ] = 1.0,
    augment: Annotated[
        str | None, typer.Option(help=f"{', '.join(AUGMENTATIONS)}. Default: the data set's; none for a frozen backbone.", rich_help_panel=_FIT)
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32 | mixed_bfloat16 | mixed_float16 | auto: the quicker of the first two here.", rich_help_panel=_FIT)
    ] = "float32",
    batch_norm_momentum: Annotated[
        float | None, typer.Option(help="Default: averages span a quarter of an epoch at most.", rich_help_panel=_FIT)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the start, the order, dropout and augmentation.", rich_help_panel=_FIT)] = 0,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same numbers each time, slower.", rich_help_panel=_FIT)] = False,
    name: Annotated[str | None, typer.Option(help="The run's name. Default: data, backbone, time.", rich_help_panel=_RUN)] = None,
    runs: options.RunsOption = "runs",
    resume: Annotated[str | None, typer.Option(help="Continue this run (name or folder) after its last whole epoch.", rich_help_panel=_RUN)] = None,
    recipe_file: Annotated[
        str | None, typer.Option("--recipe", help="Train this recipe.json anew (- for stdin) instead of giving options.", rich_help_panel=_RUN)
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Fine-tune a backbone on labelled images.

    Writes runs/<name>/ with the recipe, the manifest, weights, history, predictions, metrics and curves. A run that was
    interrupted or killed goes on with --resume. The Keras backend is TensorFlow, or what KERAS_BACKEND says (jax).

    With auto a few training steps of each way are timed before the training, and the recipe records what was chosen. Batch size and precision change
    what is learned, if little: compare runs of the same.
    """
    if resume is not None:
        _refuse_others(context, "--resume", _RESUME_ALLOWS)
        _run(find_run(resume, runs=Path(runs)), None, as_json=as_json)
        return
    if recipe_file is not None:
        _refuse_others(context, "--recipe", _RECIPE_ALLOWS)
        recipe = _read_recipe(recipe_file)
        _run(_new_run(runs, name, recipe), recipe, as_json=as_json)
        return
    request = options.data_request(
        data,
        protocol=protocol,
        fractions=fractions,
        fold=fold,
        split_seed=split_seed,
        group_rule=group_rule,
        on_bad_image=on_bad_image,
        limit_per_label=limit,
        images_fraction=images_fraction,
    )
    recipe = make_recipe(
        backbone,
        request,
        image_size_px=image_size,
        learning_rate=learning_rate,
        augmentation=augment,
        crop=crop,
        tta=tta,
        hidden=_hidden(hidden),
        dropout=dropout,
        schedule=schedule,
        epochs=epochs,
        batch_size=None if batch_size == AUTO else _count(batch_size),
        seed=seed,
        patience=patience,
        weights=weights,
        freeze=freeze,
        class_weight=class_weight,
        logit_adjustment=logit_adjustment,
        logit_adjustment_strength=logit_adjustment_strength,
        precision=_precision(precision),
        deterministic=deterministic,
        batch_norm_momentum=batch_norm_momentum,
    )
    run = _new_run(runs, name, recipe)
    if AUTO in (batch_size, precision):
        from cellclf.training.train import check

        check(recipe, run.folder)  # before minutes are spent on measuring
        recipe = _quickest(recipe, precision=precision == AUTO, batch_size=batch_size == AUTO)
    _run(run, recipe, as_json=as_json)


def _count(text: str) -> int:
    """A number of images; a usage error where it is none."""
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a number of images nor {AUTO}", param_hint="--batch-size") from error


def _precision(text: str) -> str | None:
    """A precision, None for auto; a usage error where it is neither."""
    allowed = get_args(TrainingPrecision)
    if text not in (*allowed, AUTO):
        raise typer.BadParameter(f"{text!r} is none of {', '.join((*allowed, AUTO))}", param_hint="--precision")
    return None if text == AUTO else text


def _quickest(recipe: Recipe, *, precision: bool, batch_size: bool) -> Recipe:
    """The recipe with what trains quickest here in the place of what is to be chosen."""
    with TrainingDisplay() as display:
        found = quickest(recipe, precision=precision, batch_size=batch_size, progress=display)
    note(str(found))
    for name, reason in found.left_out.items():
        note(f"left out {name}: {reason}")
    return make_recipe(**{**dict(recipe), "precision": found.best.precision, "batch_size": found.best.batch_size})


def _new_run(runs: str, name: str | None, recipe: Recipe) -> Run:
    """The run to make; its name is one folder's below `runs`, so that it is found there again."""
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise CellclfError(f"--name {name!r} must be the name of a folder in {runs}/, without a slash")
    return Run(Path(runs) / (name or _default_name(recipe)))


def _run(run: Run, recipe: Recipe | None, *, as_json: bool) -> None:
    from cellclf.training.train import resume, train

    if recipe is not None:
        _announce(recipe)
    elif run.finished:
        note(f"run {run.name} is finished already")
    with TrainingDisplay() as display:
        try:
            run = train(recipe, run.folder, progress=display) if recipe is not None else resume(run, progress=display)
        except KeyboardInterrupt:
            if run.folder.exists():
                note(f"interrupted; go on with: cellclf train --resume {relative(run.folder)}")
            raise typer.Exit(130) from None
    if as_json:
        metrics = run.metrics()
        print_json(metrics.model_dump_json(indent=2))
        for text in has_not_learned(metrics.validation, "validation images"):
            note(text)
    else:
        print_summary(run)


def print_summary(run: Run) -> None:
    """A run's figures on stdout; where a split leaks, that stands beside its figures."""
    metrics, setup = run.metrics(), run.setup()
    leaks = {leak.split: leak.reason for leak in setup.data.leaks}
    table = plain_table("", "validation", "test", title=f"{run.name}: {setup.recipe.backbone}, protocol {setup.data.protocol}")
    for (figure, first), (_, second) in zip(metrics_lines(metrics.validation), metrics_lines(metrics.test), strict=True):
        table.add_row(figure, first, second)
    table.add_row("", *(Text("LEAKS", style="bold red") if split in leaks else "" for split in ("validation", "test")))
    out.print(table)
    unit = "groups" if metrics.test.interval_unit == "group" else "files, because groups are unknown: they are too narrow"
    out.print(f"in brackets: 95 % intervals over {unit}", style="dim")
    for leak in setup.data.leaks:
        out.print(str(leak), style="red")
    for text in setup.data.notes:
        out.print(text, style="yellow")
    if skipped := setup.data.skipped:
        out.print(f"{len(skipped)} images were left out (recipe.json names them), the first: {skipped[0].path}: {skipped[0].reason}", style="yellow")
    for text in has_not_learned(metrics.validation, "validation images"):
        out.print(text, style="bold red")
    spent = metrics.learning_time
    out.print(
        f"learning time {clock(spent.total_s)} (data {clock(spent.data_s)}, compile {clock(spent.compile_s)}, fit {clock(spent.fit_s)}), "
        f"{metrics.epochs_run} epochs{', stopped early' if metrics.stopped_early else ''}, weights of epoch {metrics.weights_epoch}, "
        f"{metrics.images_per_second:.0f} img/s, {metrics.parameters.total:,} parameters ({metrics.parameters.trainable:,} trainable)"
    )
    out.print(f"run {relative(run.folder)}/   next: cellclf export {shlex.quote(str(relative(run.folder)))}")


def _announce(recipe: Recipe) -> None:
    cropped = "" if recipe.crop == "none" else f", crop {recipe.crop},"
    tta = "" if recipe.tta == "none" else f" test-time augmentation {recipe.tta},"
    frozen = f", frozen {recipe.freeze}" if recipe.freeze != "none" else ""
    err.print(
        f"{recipe.backbone} at {recipe.image_size_px} px{cropped} from {recipe.weights} weights{frozen}; hidden {list(recipe.hidden)}, "
        f"dropout {recipe.dropout}; "
        f"Adam {recipe.learning_rate:g} ({recipe.schedule}), batch {recipe.batch_size}, {recipe.precision}, at most {recipe.epochs} epochs, "
        f"augmentation {recipe.augmentation},{tta} seed {recipe.seed}"
    )


def _hidden(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise CellclfError(f"--hidden {text!r} must be numbers of units, as 16 or 8,8, or none") from error


def _default_name(recipe: Recipe) -> str:
    """Data, backbone and the time to the millisecond: runs started by one loop of a shell keep apart."""
    now = datetime.datetime.now()
    return f"{Path(recipe.data.data).stem}-{recipe.backbone}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def _read_recipe(file: str) -> Recipe:
    """A recipe from a run folder's recipe.json or a bare recipe; '-' reads stdin. Raises StoredFileError."""
    where = "the recipe on stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise StoredFileError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if isinstance(content, dict) and "recipe" in content:
        return Setup.parse(text, where=where).recipe
    return Recipe.parse(text, where=where)


def _refuse_others(context: typer.Context, beside: str, allowed: set[str]) -> None:
    """A recipe that is fixed already: any option that would change it is an error, not ignored."""
    given = [
        "--" + name.replace("_", "-")
        for name in context.params
        if name not in allowed and str(getattr(context.get_parameter_source(name), "name", "")) == "COMMANDLINE"
    ]
    if given:
        raise CellclfError(f"{', '.join(given)} cannot be given with {beside}: the recipe is fixed there")
