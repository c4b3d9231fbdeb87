"""RefusedError: a request that is answered with an error status. Imports errors only."""

import math

from cellclf.errors import ServingError

__all__ = ["RefusedError"]


class RefusedError(ServingError):
    """A request that gets a status and one sentence instead of an answer.

    reason: one word for the metrics. retry_after_s: when to come again. close: the connection is closed after the answer, because the rest of the
    request is not worth reading.
    """

    def __init__(self, status: int, message: str, *, reason: str, retry_after_s: float | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.close = close

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the status wants to be said in the answer's head."""
        found = []
        if self.retry_after_s is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b'Bearer realm="cellclf"'))
        if self.status == 405:
            found.append((b"allow", b"POST"))
        if self.close:
            found.append((b"connection", b"close"))
        return found
