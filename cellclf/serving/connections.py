"""Connections that cannot be held open or filled for nothing: uvicorn's protocol with limits on how many, and on a request's head.

They tell who leaves.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cellclf.serving.exchange import Presence

__all__ = ["guarded"]

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def guarded(*, max_connections: int, max_header_bytes: int, header_s: float) -> type[asyncio.Protocol]:
    """The protocol's class with these limits. httptools itself keeps a head of any size, and uvicorn waits for one for ever."""

    class GuardedProtocol(HttpToolsProtocol):
        """A connection that is closed where its head is too large, or does not come in time."""

        _head_bytes = 0
        _in_head = _between = True
        _begun = 0
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """A client came; one too many is told so."""
            super().connection_made(transport)
            self._presence = Presence(self.flow.resume_reading)
            if len(self.connections) > max_connections:
                transport.write(_TOO_MANY)
                transport.close()
                return
            self._late = self.loop.call_later(header_s, transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            """The client left."""
            self._stop_timer()
            super().connection_lost(exc)
            self._presence.leave()

        def data_received(self, data: bytes) -> None:
            """Bytes came; count those of a head that is not complete. One that began behind another request's bytes counts from the next on."""
            if self.transport.is_closing():
                return
            beginning, self._begun = int(self._between), 0
            super().data_received(data)
            if self._in_head and self._begun == beginning:
                self._head_bytes += len(data)
                if self._head_bytes > max_header_bytes and not self.transport.is_closing():
                    self.transport.write(_HEAD_TOO_LARGE)
                    self.transport.close()
                    return
            if self._late is None and self._waits_for_head():
                self._late = self.loop.call_later(header_s, self.transport.close)

        def on_message_begin(self) -> None:
            """A head begins."""
            super().on_message_begin()
            self._in_head, self._between, self._head_bytes = True, False, 0
            self._begun += 1

        def on_headers_complete(self) -> None:
            """A head has ended."""
            self._in_head = False
            self._stop_timer()
            self._presence.keep(self.scope["state"])
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            """A request has ended."""
            self._between = True
            super().on_message_complete()

        def _waits_for_head(self) -> bool:
            """Whether bytes came of which no request has been made, nor is one in work, after which uvicorn would begin to wait itself."""
            return self._in_head or (self._between and (self.cycle is None or self.cycle.response_complete) and self.timeout_keep_alive_task is None)

        def _stop_timer(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return GuardedProtocol
