"""`cellclf serve`."""

import importlib.util
import signal
from pathlib import Path
from typing import Annotated

import typer

from cellclf.cli import options
from cellclf.cli.console import note
from cellclf.environment import usable_cores
from cellclf.errors import MissingExtraError

app = typer.Typer(pretty_exceptions_enable=False)

_LIMITS, _LOAD, _ACCESS = "Limits", "Load", "Access"
_MIB = 1 << 20


def _end(*_: object) -> None:
    """SIGTERM while nothing is served yet: nobody waits for an answer. Without a handler a container's first process does not hear it."""
    raise SystemExit(0)


@app.command("serve")
def serve(
    models: Annotated[list[str] | None, typer.Argument(help="Exported files, FILE or NAME=FILE. Default: the newest in exported/.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind. 0.0.0.0: every network; wants keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    device: options.DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Workers, one CPU thread each. Default: cores that may be used, and one without processes.")
    ] = None,
    processes: Annotated[
        bool | None,
        typer.Option(
            "--processes/--no-processes",
            help="Each worker a process of its own, with its own copy of the network. Default: unless a GPU may be used, or on Windows.",
            show_default=False,
        ),
    ] = None,
    sha256: Annotated[list[str] | None, typer.Option(help="Refuse other files; once for each allowed.", rich_help_panel=_ACCESS)] = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(help="API keys, one a line, as `name key`. Also: $CELLCLF_API_KEYS, keys alone, between commas.", rich_help_panel=_ACCESS),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let everybody in, from other machines too.", rich_help_panel=_ACCESS)] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Images a batch.", rich_help_panel=_LOAD)] = 16,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="Wait for requests that are being received.", rich_help_panel=_LOAD)] = 2.0,
    max_queue_ms: Annotated[
        float, typer.Option(min=1, help="Refuse what would wait longer; 99 % of the others are answered within twice that.", rich_help_panel=_LOAD)
    ] = 500.0,
    deadline_ms: Annotated[float, typer.Option(min=1, help="Answer by then, or 504.", rich_help_panel=_LOAD)] = 10_000.0,
    drain_s: Annotated[float, typer.Option(min=1, help="Time for accepted requests after SIGTERM.", rich_help_panel=_LOAD)] = 30.0,
    unready_s: Annotated[float, typer.Option(min=0, help="After SIGTERM, say not ready but answer for so long.", rich_help_panel=_LOAD)] = 0.0,
    reload_s: Annotated[float, typer.Option(min=0, help="Look for changed files so often; 0: never.", rich_help_panel=_LOAD)] = 2.0,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB a request.", rich_help_panel=_LIMITS)] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Images a request.", rich_help_panel=_LIMITS)] = 64,
    max_pixels: Annotated[int, typer.Option(min=1, help="Width × height of an image.", rich_help_panel=_LIMITS)] = 25_000_000,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Images a second and client. Default: any.", rich_help_panel=_LIMITS)] = None,
    burst: Annotated[int, typer.Option(min=1, help="Images at once and client, under --rate.", rich_help_panel=_LIMITS)] = 256,
    log_level: Annotated[str, typer.Option(help="debug | info | warning | error")] = "info",
) -> None:
    """Answer over HTTP what images show.

    POST /predict, the Open Inference Protocol below /v2, /docs, /metrics. The file's golden cases are replayed before the port opens; a changed file
    takes over once it is proven. Where --device is auto, a file runs as `cellclf tune` found fastest here, but for threads: each worker has one, and
    --threads says how many workers there are. SIGTERM lets nobody in any more, answers everybody who is, and ends with 0.
    """
    signal.signal(signal.SIGTERM, _end)
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart")):
        raise MissingExtraError("serve", "serve")
    from cellclf.serving.keys import read_keys
    from cellclf.serving.logs import log_to
    from cellclf.serving.models import sources_of, why_not_apart
    from cellclf.serving.server import Server, bind, log_threads
    from cellclf.serving.settings import Settings

    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("--log-level is debug, info, warning or error")
    sources = sources_of(models or [], device=device, sha256=sha256 or ())
    apart = why_not_apart(sources) is None if processes is None else processes
    settings = Settings(
        threads=threads or usable_cores() + (not apart),  # threads of one process wait for its lock: one more fills the cores (benchmarks/serving)
        processes=apart,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue_ms=max_queue_ms,
        deadline_ms=deadline_ms,
        drain_s=drain_s,
        unready_s=unready_s,
        reload_s=reload_s,
        max_body_bytes=max_body_mb * _MIB,
        max_images=max_images,
        max_pixels=max_pixels,
        rate=rate,
        burst=burst,
    )
    keys = read_keys(api_keys_file)
    log_to(level=log_level)
    log_threads()
    server = Server(sources, settings, listener=bind(host, port), keys=keys, no_auth=no_auth)
    note(f"serving {', '.join(f'{model.name} {model.version}' for model in server.service.models)} at {server.address}")
    server.run()
