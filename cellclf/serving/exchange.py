"""Exchange: one HTTP request and its answer over ASGI, without a framework in between; whether its client is there. Imports refusals only."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from cellclf.serving.refusals import RefusedError

__all__ = ["WORTH_DROPPING", "ClientGoneError", "Exchange", "Headers", "Presence", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WORTH_DROPPING = 8 << 20
"""Bytes up to which a refused body is read and dropped, so that the client reads its answer."""

_DROPPING_S = 2.0

_PRESENCE = "cellclf.presence"
"""The key of a connection's presence in the state of each of its requests."""

_IDS = itertools.count(int.from_bytes(os.urandom(8)))
"""Where the ids of requests begin: elsewhere in each process."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_64_BITS = (1 << 64) - 1
_JSON = (b"content-type", b"application/json")


class ClientGoneError(Exception):
    """The client closed its connection before it had its answer; there is nobody to tell."""


class Presence:
    """A connection's client: whether it has left, and who wants to be told when it does.

    resume: reads on from the connection, without which no leaving is seen.
    """

    def __init__(self, resume: Callable[[], None]) -> None:
        self.left = False
        self._resume = resume
        self._watchers: list[Callable[[], None]] = []

    def keep(self, state: MutableMapping[str, Any]) -> None:
        """Be what a request of this state finds."""
        state[_PRESENCE] = self

    def watch(self, told: Callable[[], None]) -> None:
        """Call when the client leaves, or now where it has."""
        if self.left:
            told()
            return
        self._watchers.append(told)
        self._resume()

    def unwatch(self, told: Callable[[], None]) -> None:
        """Do not call any more."""
        if told in self._watchers:
            self._watchers.remove(told)

    def leave(self) -> None:
        """The client left."""
        self.left = True
        for told in tuple(self._watchers):
            told()


class Exchange:
    """A request, and what is told about it afterwards: route, status, images, model, client.

    always: headers of every answer. id: the client's X-Request-Id where it is a plain word, else a new one. client: whom the rate is counted for.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, always: Headers) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.client = ""
        self.started = time.monotonic()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else f"{next(_IDS) & _64_BITS:016x}"
        self.route = "other"
        self.status = 0
        self.images = 0
        self.model = ""
        self.refusal = ""
        self.body_bytes = 0
        self.body_ended = False
        self._always = always

    @property
    def method(self) -> str:
        """GET, POST …"""
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """The decoded path."""
        return str(self.scope["path"])

    @property
    def presence(self) -> Presence:
        """Whether the client is still there."""
        found: Presence = self.scope["state"][_PRESENCE]
        return found

    def query(self) -> dict[str, str]:
        """The query's parameters, the last of each name; raises RefusedError 400 where there are too many."""
        if not self.scope["query_string"]:
            return {}
        try:
            return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=32))
        except ValueError as error:
            raise RefusedError(400, "too many query parameters", reason="query") from error

    def refuse_compressed(self) -> None:
        """Raise RefusedError 415 for a body that is compressed as a whole."""
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise RefusedError(415, "compressed bodies are not read", reason="type")

    async def receive(self) -> bytes:
        """The next piece of the body; body_ended tells whether it is the last. Raises ClientGoneError."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        self.body_ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self.body_bytes += len(piece)
        return piece

    async def receive_message(self) -> Message:
        """The next ASGI message as it is, for a framework that reads by itself."""
        return await self._receive()

    async def send(self, message: Message) -> None:
        """An ASGI message of an answer; the headers of every answer are added, where it has no such header itself."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own: Headers = list(message.get("headers", []))
            names = {name for name, _ in own}
            message["headers"] = [*own, *(pair for pair in self._always if pair[0] not in names), (b"x-request-id", self.id.encode())]
        await self._send(message)

    async def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """A whole answer; headers must hold the content type."""
        length = (b"content-length", str(len(body)).encode())
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self.send({"type": "http.response.body", "body": body if self.method != "HEAD" else b""})

    async def answer_json(self, status: int, value: Any, headers: Headers | None = None) -> None:
        """A value as JSON."""
        await self.answer(status, json.dumps(value).encode(), [_JSON, *(headers or [])])

    async def refuse(self, error: RefusedError) -> None:
        """The error as {"error": sentence}, as the Open Inference Protocol has it.

        Where the connection is closed after it, what is still to come of the body is dropped first: a socket that is closed on unread bytes resets
        the connection, and the client may lose the answer that it has not read yet.
        """
        self.refusal = error.reason
        body = json.dumps({"error": str(error)}).encode()
        if not (error.close or self.headers.get(b"connection", b"").lower() == b"close"):
            await self.answer(error.status, body, [_JSON, *error.headers])
            return
        length = (b"content-length", str(len(body)).encode())
        await self.send({"type": "http.response.start", "status": error.status, "headers": [_JSON, *error.headers, length]})
        await self.send({"type": "http.response.body", "body": body if self.method != "HEAD" else b"", "more_body": True})
        await self._drop_the_rest()
        await self.send({"type": "http.response.body", "body": b""})

    async def _drop_the_rest(self) -> None:
        """Read and forget the body, but no more of it, and no longer, than an answer is worth."""
        dropped = 0
        with contextlib.suppress(TimeoutError, ClientGoneError):
            async with asyncio.timeout(_DROPPING_S):
                while not self.body_ended and dropped < WORTH_DROPPING:
                    dropped += len(await self.receive())
