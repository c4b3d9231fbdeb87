"""Everything a service can be told, with its defaults and their units. Imports nothing of ours but errors and what decoding takes."""

import ipaddress
import math
from dataclasses import dataclass, fields

from cellclf.data.decoding import BYTES_A_PIXEL
from cellclf.errors import ServingError

__all__ = ["Settings", "is_loopback"]

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and times of a service; raises ServingError for one that cannot be.

    threads: workers, each decodes and runs batches on one CPU thread. processes: whether each worker is a process of its own. max_batch: images a
    batch. max_wait_ms: how long a worker with fewer images than the network is quickest with waits for those of requests that are still being
    received; where none is, it does not wait. max_queue_ms: a request is refused where the images before it would take longer; twice that is the
    bound for the 99th percentile of those that are accepted. max_queue_images: images that may wait at all. deadline_ms: after so long a request is
    answered 504; a client may ask for less. max_body_bytes: of a request; max_json_bytes: of its JSON, which holds up everybody while it is parsed.
    max_buffered_bytes: of all requests together. max_images: a request. max_pixels: width × height of an encoded image; decoding_bound_bytes follows
    from it. rate, burst: images a second that one client may send on average, and at once; None = any number. max_connections: open at a time.
    max_header_bytes, header_s: what and how long a request's head may take. drain_s: what accepted requests are given to end after SIGTERM, at least
    their deadline. unready_s: how long the service says that it is not ready, and still answers, before it closes its port. reload_s: seconds between
    two looks at the files; 0 = never.
    """

    threads: int
    processes: bool = False
    max_batch: int = 16
    max_wait_ms: float = 2.0
    max_queue_ms: float = 500.0
    max_queue_images: int = 1024
    deadline_ms: float = 10_000.0
    max_body_bytes: int = 32 * _MIB
    max_json_bytes: int = 4 * _MIB
    max_buffered_bytes: int = 256 * _MIB
    max_images: int = 64
    max_pixels: int = 25_000_000
    rate: float | None = None
    burst: int = 256
    max_connections: int = 1000
    max_header_bytes: int = 32_768
    header_s: float = 10.0
    drain_s: float = 30.0
    unready_s: float = 0.0
    reload_s: float = 2.0

    def __post_init__(self) -> None:
        may_be_zero = ("processes", "max_wait_ms", "unready_s", "reload_s")
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ServingError(f"{name} {value} must be a finite number")
            if value is not None and (value < 0 or (value == 0 and name not in may_be_zero)):
                raise ServingError(f"{name} {value} must be {'at least 0' if name in may_be_zero else 'more than 0'}")
        if self.max_body_bytes > self.max_buffered_bytes:
            raise ServingError(
                f"a request may have {self.max_body_bytes // _MIB} MiB (--max-body-mb), and all requests together hold at most "
                f"{self.max_buffered_bytes // _MIB} MiB: such a request could never be answered"
            )
        if self.deadline_ms > self.drain_s * 1000:
            raise ServingError(
                f"requests may take {self.deadline_ms:g} ms (--deadline-ms), and are given {self.drain_s:g} s to end after SIGTERM (--drain-s): "
                "some that were accepted would never be answered; give --drain-s at least as long"
            )

    @property
    def buffered_bound_bytes(self) -> int:
        """The most that requests' bodies take: worker processes hold once more what they work on."""
        return self.max_buffered_bytes * (2 if self.processes else 1)

    @property
    def decoding_bound_bytes(self) -> int:
        """The most that decoding may take at a time: in each worker, and once where heat maps are computed."""
        return (self.threads + 1) * self.max_pixels * BYTES_A_PIXEL


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service that is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
