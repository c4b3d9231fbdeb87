"""Request bodies, read piece by piece under limits of size, time and of memory for all of them together. Imports the exchange only."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from cellclf.serving.exchange import WORTH_DROPPING, Exchange
from cellclf.serving.refusals import RefusedError

__all__ = ["Budget", "Lease", "content_length", "pieces", "too_large", "whole_body"]


class Budget:
    """Bytes that all requests together may hold."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def lease(self) -> "Lease":
        """What one request takes, given back at the end of a `with`."""
        return Lease(self)

    def take(self, count: int) -> None:
        """Raise RefusedError 503 where so many bytes more are too many."""
        if self.held_bytes + count > self._limit_bytes:
            raise RefusedError(503, "requests hold all the memory they may", reason="memory", retry_after_s=1, close=True)
        self.held_bytes += count


class Lease:
    """One request's part of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.held_bytes -= self.bytes

    def take(self, count: int) -> None:
        """Take more; raises RefusedError."""
        self._budget.take(count)
        self.bytes += count


def content_length(exchange: Exchange) -> int | None:
    """What the head says; None where it does not."""
    text = exchange.headers.get(b"content-length")
    return int(text) if text is not None and text.isdigit() else None


async def pieces(exchange: Exchange, lease: Lease, *, limit_bytes: int, seconds: float) -> AsyncIterator[bytes]:
    """The body's pieces as they come; raises RefusedError 413 past the limit, 408 past the time, 503; ClientGoneError."""
    announced = content_length(exchange)
    if announced is not None and announced > limit_bytes:
        raise too_large(announced, limit_bytes)
    try:
        async with asyncio.timeout(seconds):
            while not exchange.body_ended:
                piece = await exchange.receive()
                lease.take(len(piece))
                if exchange.body_bytes > limit_bytes:
                    raise too_large(exchange.body_bytes, limit_bytes)
                yield piece
    except TimeoutError as error:
        raise RefusedError(408, "the request's body did not come in time", reason="slow", close=True) from error


async def whole_body(exchange: Exchange, lease: Lease, *, limit_bytes: int, seconds: float) -> bytes:
    """The body in one; raises as `pieces` does."""
    found = [piece async for piece in pieces(exchange, lease, limit_bytes=limit_bytes, seconds=seconds)]
    return found[0] if len(found) == 1 else b"".join(found)


def too_large(count: int, limit_bytes: int, *, what: str = "a body") -> RefusedError:
    """413; the connection is kept only where dropping the rest costs little."""
    return RefusedError(413, f"{what} of {count:,} bytes or more; at most {limit_bytes:,} are taken", reason="size", close=count > WORTH_DROPPING)
