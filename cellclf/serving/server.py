"""Server: bind, load, prove, warm up, then listen; drain at SIGTERM. The only place that knows uvicorn."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn

from cellclf.errors import ServingError
from cellclf.serving.connections import guarded
from cellclf.serving.exchange import Receive, Scope, Send
from cellclf.serving.gate import Gate
from cellclf.serving.keys import Keys
from cellclf.serving.logs import event
from cellclf.serving.metrics import Metrics
from cellclf.serving.models import Models, Source, load
from cellclf.serving.processes import ProcessRunner
from cellclf.serving.reloading import Reloader, stamp_of
from cellclf.serving.runners import Runner, ThreadRunner
from cellclf.serving.service import Service
from cellclf.serving.settings import Settings, is_loopback

__all__ = ["Server", "bind", "log_threads"]

_BACKLOG = 512
_KEEP_ALIVE_S = 30
_SWITCH_S = 0.001
"""How long a worker may hold Python's lock while the event loop wants it; Python's own 5 ms would be most of a quick answer."""


_LAST_LOOK_S = 0.1
"""For how long connections are still taken and read while all are refused: what lay in them already is told so, in the place of a reset."""

_LOOKS = 30
"""In how many turns of the loop at least; from taking a connection to answering it are five or six."""

_PATIENCE_S = 60.0
"""What a worker process may take for a batch beyond every request's deadline before it is taken for dead."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound but does not listen yet; raises ServingError where the address cannot be had."""
    found = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise ServingError(f"{host}:{port} cannot be bound: {error.strerror or error}; choose another --port or --host") from error
    return found


class Server:
    """A service on a socket.

    Models are loaded, proven and warmed up here, before anything listens. Raises ServingError and what `load` raises. Beyond loopback it wants keys,
    unless no_auth says that none are wanted. address: where it answers; known after the port is closed, too.
    """

    def __init__(self, sources: Sequence[Source], settings: Settings, *, listener: socket.socket, keys: Keys, no_auth: bool = False) -> None:
        host, port = listener.getsockname()[:2]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if not keys and not no_auth and not is_loopback(host):
            raise ServingError(
                f"{host} can be reached from other machines: give keys with --api-keys-file or $CELLCLF_API_KEYS, or say --no-auth to let all in"
            )
        _ignore_broken_pipes()
        stamps = {(source.name, source.path): stamp_of(source.path) for source in sources}
        self.settings, self.listener = settings, listener
        self.service = _service(sources, settings, keys)
        self._reloader = Reloader(self.service.models, stamps, self.service.metrics, settings, prepare=self.service.engine.prepare)
        self._making: asyncio.Future[Any] | None = None
        self._uvicorn = _Uvicorn(uvicorn.Config(Gate(self.service, self._inner), **_options(settings)), self.drain)
        self.service.metrics.watch(self.service.engine, lambda: len(self._uvicorn.server_state.connections))
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until `drain` from another thread; returns when every accepted request has its answer."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            with asyncio.Runner(loop_factory=self._uvicorn.config.get_loop_factory()) as runner:
                runner.run(self._serve())
        finally:
            sys.setswitchinterval(before)
            gc.unfreeze()

    def drain(self) -> None:
        """Let nobody in any more, answer those who are, end. Safe from any thread and from signal handlers; a second call ends at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        engine = self.service.engine
        engine.start(self._loop)
        self._making = self._loop.run_in_executor(None, _made, self.service)
        self._making.add_done_callback(_keep_out_of_collections)
        watching = self._loop.create_task(self._reloader.run()) if self.settings.reload_s else None
        if watching is not None:
            watching.add_done_callback(_told)
        for model in self.service.models:
            event("serving", model=model.name, version=model.version, provider=model.classifier.provider, address=self.address)
        try:
            await self._uvicorn.serve(sockets=[self.listener])
        finally:
            if watching is not None:
                watching.cancel()
            engine.stop()
            self._loop = None
        event("stopped")

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The FastAPI half, which is made while the port is open already: a service that was killed answers the sooner."""
        assert self._making is not None
        await (await self._making)(scope, receive, send)

    def _drain(self) -> None:
        admission = self.service.admission
        if admission.leaving:
            self._uvicorn.should_exit = self._uvicorn.force_exit = True
            return
        admission.leaving = True
        event("draining", queued=self.service.engine.queued, running=self.service.engine.running)
        if not self.settings.unready_s:
            self._close()
            return
        assert self._loop is not None
        self._loop.call_later(self.settings.unready_s, self._close)

    def _close(self) -> None:
        assert self._loop is not None
        self.service.admission.draining = True
        self._loop.call_later(_LAST_LOOK_S, self._look, _LOOKS)

    def _look(self, looks: int) -> None:
        """Let the loop take and read what lies in connections, turn by turn, and end: the time may have passed while it stood still."""
        assert self._loop is not None
        if looks:
            self._loop.call_soon(self._look, looks - 1)
        else:
            self._uvicorn.stop()


def _service(sources: Sequence[Source], settings: Settings, keys: Keys) -> Service:
    """Start the workers, and while they start read and prove the files; then let the workers open them."""
    metrics = Metrics()
    runners: list[Runner] = []
    with contextlib.ExitStack() as failing:
        for _ in range(settings.threads):
            runners.append(_runner(settings, metrics))
            failing.callback(runners[-1].close)
        models = Models([load(source, settings) for source in sources])
        service = Service.of(models, settings, keys, runners=runners, metrics=metrics)
        for model in models:
            service.engine.prepare(model.classifier)
        failing.pop_all()
    return service


def _runner(settings: Settings, metrics: Metrics) -> Runner:
    if not settings.processes:
        return ThreadRunner(max_pixels=settings.max_pixels)
    patience_s = settings.deadline_ms / 1000 + _PATIENCE_S
    return ProcessRunner(max_pixels=settings.max_pixels, max_batch=settings.max_batch, patience_s=patience_s, on_end=metrics.worker_ends.inc)


def _made(service: Service) -> Any:
    """FastAPI takes a quarter of the whole start to import."""
    from cellclf.serving.app import create_app

    return create_app(service)


class _Uvicorn(uvicorn.Server):
    """uvicorn whose signals drain, and which then ends with exit code 0 instead of by the signal."""

    def __init__(self, config: uvicorn.Config, drain: Any) -> None:
        super().__init__(config)
        self._drain = drain

    def stop(self) -> None:
        """Close the port, wait for the answers, end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT drain, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """A signal came."""
        self._drain()


def _options(settings: Settings) -> dict[str, Any]:
    """uvicorn's configuration. An unforeseen error of the application is logged by uvicorn, and answered with 500 and nothing else."""
    return {
        "http": guarded(max_connections=settings.max_connections, max_header_bytes=settings.max_header_bytes, header_s=settings.header_s),
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": max(1, round(settings.drain_s)),
    }


def _keep_out_of_collections(_: object) -> None:
    """What is there when all is imported stays: looking through it again and again would hold every answer up, by tens of milliseconds each time."""
    gc.collect()
    gc.freeze()


def _told(task: "asyncio.Task[None]") -> None:
    """Log at once what ended a task that should not end; else it would be told when the service ends."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logging.getLogger("cellclf.serving").critical("reload", exc_info=error, extra={"fields": {}})


def _ignore_broken_pipes() -> None:
    """A client or worker that leaves while it is sent something must not end the process, as the command line lets a reader of its output do."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def log_threads() -> None:
    """Let an unforeseen error of a worker be one line of the log, as everything else."""

    def hook(found: threading.ExceptHookArgs) -> None:
        logging.getLogger("cellclf.serving").critical(
            "worker", exc_info=(found.exc_type, found.exc_value or found.exc_type(), found.exc_traceback), extra={"fields": {}}
        )

    threading.excepthook = hook
