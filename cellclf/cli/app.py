"""The verbs, and the one boundary where errors become a line and an exit code: 0 done, 1 a user's error, 2 wrong usage, 3 some inputs failed."""

import errno
import importlib
import io
import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from cellclf.errors import CellclfError

__all__ = ["VERBS", "main"]

_UsageError: Any = typer.BadParameter.__base__
"""Click's, as Typer carries it, which exports only this child of it."""

VERBS = {
    "demo": "Do the whole job on the built-in sample.",
    "doctor": "Tell what works on this machine and what is missing.",
    "data": "Look at a data set and its splits, or fetch it.",
    "train": "Fine-tune a backbone on labelled images.",
    "export": "Write a finished run as one ONNX file that proves itself.",
    "verify": "Prove that a file gives here what it gave where it was made.",
    "tune": "Find what runs a file fastest on this machine, and remember it.",
    "show": "Tell everything an exported file knows about itself.",
    "predict": "Name what images show.",
    "serve": "Answer over HTTP what images show.",
    "evaluate": "Measure an exported file on labelled images.",
    "study": "Run the published studies, or one of your own.",
    "report": "Compare finished runs on one page.",
    "choose": "Choose the model to deploy.",
}
"""Each verb with its one-line help: the first line of its function's docstring, known here so that --help imports no verb."""


class _Verbs(TyperGroup):
    """Lists the verbs without importing them; imports the one that is called. Contexts and commands are Click's, as Typer carries it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Click's signature
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  # Click's signature
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in VERBS:
            module = importlib.import_module(f"cellclf.cli.{args[0]}")
            return args[0], typer.main.get_command(module.app), args[1:]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Verbs, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from cellclf import __version__

        print(f"cellclf {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Fine-tune CNNs on labelled medical images, export one self-proving ONNX file, and predict without TensorFlow."""


def main() -> NoReturn:
    """Run the command line; never returns."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks through all installed packages for them, a twentieth of a start
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # File names need not be UTF-8: they are shown escaped, and read back as they are.
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace"), (sys.stdin, "surrogateescape")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    code = 0
    try:
        code = app(prog_name="cellclf", standalone_mode=False) or 0
    except _UsageError as error:
        _wrong_usage(error)
    except CellclfError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        _fail(f"{error.filename or 'the output'}: {error.strerror}")
    sys.exit(code)


def _wrong_usage(error: Any) -> NoReturn:
    """One line that says what is wrong and where help is; a whole help text, which Click tells as an error too, stays what it is."""
    message = error.format_message()
    if "\n" in message.strip():
        error.show()
    elif message:  # without one the help was printed already
        path = error.ctx.command_path if error.ctx else "cellclf"
        print(f"cellclf: {message[:1].lower()}{message[1:].rstrip('.')}; see {path} --help", file=sys.stderr)
    sys.exit(error.exit_code)


def _fail(message: str) -> NoReturn:
    print(f"cellclf: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
