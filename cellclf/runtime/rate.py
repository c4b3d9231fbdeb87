"""Images a second of a session, as several callers at a time see it."""

import time
from concurrent.futures import ThreadPoolExecutor

from cellclf.data.decoding import Pixels
from cellclf.runtime.session import Session

__all__ = ["images_per_second"]


def images_per_second(session: Session, images: Pixels, *, seconds: float, callers: int = 1) -> float:
    """`callers` threads run the batch `images` [batch, H, W, 3] for about `seconds`, each at least once."""

    def call() -> int:
        done = 0
        while True:
            session.run(images)
            done += len(images)
            if time.perf_counter() >= end:
                return done

    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        end = started + seconds
        done = sum(pool.map(lambda _: call(), range(callers)))
        return done / (time.perf_counter() - started)
