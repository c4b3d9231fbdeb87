"""Connections that cannot be held open or filled for nothing: uvicorn's protocol with limits on how many, and on a request's head.

They tell who leaves, and answer what was asked before what is no HTTP.
"""

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cellclf.serving.exchange import Presence

__all__ = ["guarded"]

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_REST_S = 300.0
"""For how long the rest of a body that was answered already may come."""

_HEAD_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"(?<=\n)u(?=pgrade[ \t]*:)", re.IGNORECASE)


def guarded(*, max_connections: int, max_header_bytes: int, header_s: float) -> type[asyncio.Protocol]:
    """The protocol's class with these limits. httptools itself keeps a head of any size, and uvicorn waits for one for ever."""
    return type("Guarded", (_Guarded,), {"max_connections": max_connections, "max_header_bytes": max_header_bytes, "header_s": header_s})


class _Guarded(HttpToolsProtocol):
    """A connection that is closed where its head is too large, or does not come in time.

    _in_head: a head is not complete. _between: no request has begun that has not ended. _trailing: a chunk's head has come and none of its
    bytes, so that what comes may be trailers. _running: the cycle of the request that is being answered, or was last. _deaf: what comes is not
    heard any more. _tail, _held: the last bytes of a head that were parsed, and those after them that may be the beginning of an Upgrade. _late,
    _stuck: what closes the connection where nothing comes, and where nothing is taken.
    """

    max_connections: int
    max_header_bytes: int
    header_s: float

    _head_bytes = _line_bytes = 0
    _in_head = _between = True
    _trailing = _deaf = False
    _begun = _parts = 0
    _tail = _held = b""
    _running: Any = None
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _rest_until: float | None = None

    def connection_made(self, transport: Any) -> None:
        """A client came; one too many is told so."""
        super().connection_made(transport)
        self._presence = Presence(self.flow.resume_reading)
        if len(self.connections) > self.max_connections:
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._late = self.loop.call_later(self.header_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left: what waits behind its running request is not begun, and that one is told, of which uvicorn tells the last only."""
        self._stop_timer()
        self._taken()
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._presence.leave()

    def data_received(self, data: bytes) -> None:
        """Bytes came; count those of a head that is not complete. One that began behind another request's bytes counts from the next on."""
        if self._deaf or self.transport.is_closing():
            return
        beginning, self._begun, trailing, parts = int(self._between), 0, self._trailing, self._parts
        parsed = self._without_upgrade(data) if self._between or self._in_head else data
        self._tail = (self._tail + parsed)[-3:]
        self._parse(parsed)
        if self._held and not self._in_head and not self._deaf:  # the head had ended, in a way that only the parser knows
            held, self._held = self._held, b""
            self._parse(held)
        if (self._in_head and self._begun == beginning) or (trailing and self._trailing and self._parts == parts):
            self._head_bytes += len(data)
            if self._head_bytes > self.max_header_bytes and not self.transport.is_closing() and not self._ended_after_answers():
                self._refuse(_HEAD_TOO_LARGE)
        self._await_what_comes()

    def _parse(self, data: bytes) -> None:
        if data:
            super().data_received(data)
        else:
            self._unset_keepalive_if_required()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or too much of it; but if whole requests came before it, that is no answer to them."""
        if self._deaf or self._ended_after_answers():
            return
        if self._in_head and self._line_bytes > self.max_header_bytes:
            self._refuse(_HEAD_TOO_LARGE)
        elif self._in_answered_body():
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._between, self._head_bytes, self._line_bytes = True, False, 0, 0
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head; trailers, which nobody reads, are not kept."""
        if not self._in_head:
            return
        self._line_bytes += len(name) + len(value)
        if self._line_bytes > self.max_header_bytes:
            raise ValueError("a head that came at once is too large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has ended."""
        if self.parser.should_upgrade():
            raise ValueError("another protocol is asked for in a way that hides the body")  # which uvicorn makes 400 of
        self._presence.keep(self.scope["state"])
        super().on_headers_complete()  # which fails where the address is none
        self._in_head = False
        self._stop_timer()

    def on_chunk_header(self) -> None:
        """A chunk begins; the last one has no bytes, and trailers follow it."""
        self._trailing, self._head_bytes = True, 0
        self._parts += 1

    def on_body(self, body: bytes) -> None:
        """Bytes of a body came."""
        self._trailing = False
        self._parts += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended."""
        self._between, self._trailing, self._rest_until = True, False, None
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is sent."""
        super().on_response_complete()
        self._await_what_comes()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._taken()
        self._stuck = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _answering(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self.pipeline) or (self._running is not None and not self._running.response_complete)

    def _await_what_comes(self) -> None:
        """Close the connection if what has begun does not end, where nothing is being answered and uvicorn does not wait itself."""
        if self._answering() or self.transport.is_closing():
            return
        if self._in_head or self._held:
            if self._late is None:
                self._late = self.loop.call_later(self.header_s, self.transport.close)
        elif self.timeout_keep_alive_task is None:
            if self._between:
                if self._late is None:
                    self._late = self.loop.call_later(self.timeout_keep_alive, self.transport.close)
            else:  # the rest of a body that was answered before it had come
                if self._rest_until is None:
                    self._rest_until = self.loop.time() + _REST_S
                self._stop_timer()
                self._late = self.loop.call_at(min(self._rest_until, self.loop.time() + self.timeout_keep_alive), self.transport.close)

    def _ended_after_answers(self) -> bool:
        """Hear nothing any more; where requests before what came wait for their answers, let the connection end after those."""
        self._deaf = True
        broken = not self._between and not self._in_head  # what came is the body of the last request
        if not self._answering() or (broken and self.cycle is self._running):
            return False
        if broken:
            self.pipeline.popleft()  # uvicorn's newest is on the left
        last = self.pipeline[0][0] if self.pipeline else self._running
        last.keep_alive = False
        return True

    def _in_answered_body(self) -> bool:
        """Whether what comes is the body of a request that has its answer, or a part of it."""
        return not self._between and not self._in_head and self.cycle.response_started

    def _refuse(self, answer: bytes) -> None:
        """Say why, but not behind an answer to the same request, and close."""
        if not self._in_answered_body():
            self.transport.write(answer)
        self.transport.close()

    def _without_upgrade(self, data: bytes) -> bytes:
        """What is to be parsed of bytes that begin in a head, or before one: the same, but that a wish for another protocol is not seen.

        No other is spoken here, and httptools leaves out the body of a request that has one. The length stays, so that nothing is taken for what
        it is not. A line that may become the wish is held until it is whole. Heads behind another request in these bytes stay as they are.
        """
        tail = self._tail if self._in_head and not self._between else b""
        fresh = self._held + data if tail else data.lstrip(b"\r\n")
        self._held = b""
        whole = tail + fresh
        end = whole.find(_HEAD_END)
        head, hidden = _UPGRADE.subn(b"x", whole if end < 0 else whole[:end])
        if end < 0:
            start = head.rfind(b"\n") + 1
            line = head[start:].lower().rstrip(b" \t")
            if start and line and b"upgrade".startswith(line):
                head, self._held = head[:start], head[start:]
        return (head + whole[end:] if end >= 0 else head)[len(tail) :] if hidden or self._held else fresh

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
