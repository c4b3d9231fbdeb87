"""Gate: what every request passes. Its id, its key, its rate; the verbs that must be quick; the headers, metrics and log line of every answer."""

import logging
import re
import sys
import time
from typing import Any

from cellclf.serving.exchange import ClientGoneError, Exchange, Headers, Receive, Scope, Send
from cellclf.serving.inferring import answer_inference
from cellclf.serving.logs import event
from cellclf.serving.predicting import answer_prediction
from cellclf.serving.refusals import RefusedError
from cellclf.serving.service import Service

__all__ = ["OPEN_PATHS", "SECURITY_HEADERS", "Gate"]

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json", "/page/")
"""Paths that need no key: what an orchestrator asks, and pages that hold nothing but themselves. One that ends in / opens all below it, but for /."""

SECURITY_HEADERS: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

CLIENT_GONE = 499
"""The status in logs and metrics of a request whose client left; nothing was answered. As nginx has it."""

_READY = "/v2/health/ready"
_HEALTH = ("/v2/health/live", _READY)
"""Models are loaded before the port opens, so that a service is ready until it drains."""

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class Gate:
    """The ASGI application: the two verbs, and `inner` for everything else."""

    def __init__(self, service: Service, inner: Any) -> None:
        self._service, self._inner = service, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, always=SECURITY_HEADERS)
        try:
            await self._serve(exchange)
        finally:
            self._account(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        """Answer, whatever happens: an error that nobody foresaw is 500 with its request's id, and goes on to the log."""
        foreseen = False
        try:
            self._let_in(exchange)
            await self._answer(exchange)
            foreseen = True
        except RefusedError as error:
            error.__traceback__ = None  # it leads to the request's images, and what holds the error holds them
            await exchange.refuse(error)
            foreseen = True
        except ClientGoneError as error:
            error.__traceback__ = None
            exchange.status, exchange.refusal = CLIENT_GONE, "gone"
            foreseen = True
        finally:
            if not foreseen and not exchange.status and isinstance(sys.exception(), Exception):
                await exchange.refuse(RefusedError(500, "the service failed on this request; its log says how", reason="bug", close=True))

    def _let_in(self, exchange: Exchange) -> None:
        """Name the client, and raise RefusedError 401 or 429 where it may not come."""
        peer = exchange.scope.get("client")
        exchange.client = peer[0] if peer else "unknown"
        keys = self._service.keys
        if keys and not _is_open(exchange.path):
            holder = keys.holder(_key_of(exchange))
            if holder is None:
                raise RefusedError(401, "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY", reason="key")
            exchange.client = f"key {holder}"
        if exchange.method == "POST" and (wait_s := self._service.rates.wait_s(exchange.client)):
            raise RefusedError(429, "more images than this client may send", reason="rate", retry_after_s=wait_s)

    async def _answer(self, exchange: Exchange) -> None:
        path = exchange.path
        if exchange.method == "POST" and path == "/predict":
            exchange.route = path
            await answer_prediction(self._service, exchange)
        elif exchange.method == "POST" and (found := _INFER.fullmatch(path)):
            exchange.route = "/v2/models/{name}/infer"
            await answer_inference(self._service, exchange, found[1], found[2])
        elif path == "/predict" or _INFER.fullmatch(path):
            raise RefusedError(405, "this address takes POST only", reason="method")
        elif exchange.method in ("GET", "HEAD") and path in _HEALTH:
            exchange.route = path
            fine = not (path == _READY and self._service.admission.leaving)
            await exchange.answer_json(200 if fine else 503, {path.rpartition("/")[2]: fine})
        else:
            await self._inner(exchange.scope, exchange.receive_message, exchange.send)
            route = exchange.scope.get("route")
            exchange.route = getattr(route, "path", "other")

    def _account(self, exchange: Exchange) -> None:
        """Metrics and the log line."""
        seconds = time.monotonic() - exchange.started
        metrics = self._service.metrics
        metrics.answered(exchange.route, exchange.status, seconds)
        if exchange.refusal:
            metrics.refusals.labels(exchange.refusal).inc()
        level = logging.DEBUG if exchange.route in (*_HEALTH, "/metrics") else logging.INFO
        event(
            "request",
            level,
            id=exchange.id,
            client=exchange.client,
            method=exchange.method,
            route=exchange.route,
            status=exchange.status,
            ms=round(seconds * 1000, 2),
            images=exchange.images,
            bytes=exchange.body_bytes,
            model=exchange.model,
            refusal=exchange.refusal,
        )


def _is_open(path: str) -> bool:
    return any(path == known or (known.endswith("/") and known != "/" and path.startswith(known)) for known in OPEN_PATHS)


def _key_of(exchange: Exchange) -> bytes:
    """The key that the request shows; empty where it shows none."""
    kind, _, key = exchange.headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        return key.strip()
    return exchange.headers.get(b"x-api-key", b"")
