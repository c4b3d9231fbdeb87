"""How much one client may send: a token bucket each, for a bounded number of clients. Imports nothing of ours."""

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Rates"]

_CLIENTS = 10_000


class Rates:
    """Token buckets: `rate` a second on average, `burst` at once. What is not known before it was read is charged after, and may leave a debt.

    The bucket of a client that was not heard of for longest is forgotten when there are too many; it would be full again, or nearly.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Seconds until this client may send again; 0 where it may now."""
        if self._rate is None:
            return 0.0
        tokens = self._tokens(client)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def charge(self, client: str, images: int) -> None:
        """Count what was sent."""
        if self._rate is None:
            return
        self._buckets[client] = self._tokens(client) - images, self._clock()
        self._buckets.move_to_end(client)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)

    def _tokens(self, client: str) -> float:
        tokens, when = self._buckets.get(client, (self._burst, 0.0))
        return min(self._burst, tokens + (self._clock() - when) * (self._rate or 0.0))
