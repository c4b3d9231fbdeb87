"""POST /predict: images as multipart or one as the raw body → the records of `cellclf predict --json`."""

from contextlib import nullcontext
from typing import Any

from python_multipart.multipart import parse_options_header

from cellclf.runtime.classifier import Failure, Prediction
from cellclf.serving.bodies import Lease, pieces, whole_body
from cellclf.serving.exchange import Exchange
from cellclf.serving.multipart import ImageParts, boundary_of
from cellclf.serving.refusals import RefusedError
from cellclf.serving.service import Service
from cellclf.serving.work import Record

__all__ = ["answer_prediction"]

_PARAMETERS = {"model", "version", "top_k", "explain", "name"}

_NO_IMAGE = ("text/", "application/json", "multipart/")
"""Types that hold no image file. curl --data-binary says application/x-www-form-urlencoded, so that is taken."""


async def answer_prediction(service: Service, exchange: Exchange) -> None:
    """200 with a record an image, 422 where none could be read. Raises RefusedError."""
    exchange.refuse_compressed()
    query = exchange.query()
    if unknown := query.keys() - _PARAMETERS:
        raise RefusedError(422, f"unknown parameter {min(unknown)[:100]!r}; known: {', '.join(sorted(_PARAMETERS))}", reason="query")
    model = service.models.find(query.get("model"), query.get("version"))
    top_k = _top_k(query.get("top_k", "1"))
    explain = _flag(query.get("explain", "false"))
    deadline = service.deadline(exchange)
    service.admission.enter(deadline)
    with service.budget.lease() as lease:
        with service.arriving():
            named = await _images(service, exchange, lease, name=query.get("name"), seconds=deadline - exchange.started)
        with service.explaining.place(model, len(named)) if explain else nullcontext():
            records = await service.records(exchange, model, named, deadline=deadline)
            read = [image for (_, image), record in zip(named, records, strict=True) if isinstance(record, Prediction)]
            maps = iter(await service.explaining.maps(exchange, model, read, deadline=deadline) if explain and read else ())
    status = 422 if all(isinstance(record, Failure) for record in records) else 200
    told = [(b"x-model-name", model.name.encode()), (b"x-model-version", model.version.encode())]
    plain = [_plain(record, top_k) for record in records]
    if explain:
        for found, record in zip(plain, records, strict=True):
            if isinstance(record, Prediction):
                found |= vars(next(maps))
    await exchange.answer_json(status, plain, told)


def _plain(record: Record, top_k: int) -> dict[str, Any]:
    """As `cellclf predict --json --top-k` prints it."""
    plain = vars(record).copy()
    if isinstance(record, Prediction) and top_k > 1:
        plain["top"] = [{"label": label, "probability": probability} for label, probability in record.top(top_k)]
    return plain


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise RefusedError(422, "explain is true or false", reason="query")
    return text == "true"


def _top_k(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 10_000:
        raise RefusedError(422, "top_k is a whole number from 1 to 10,000", reason="query")
    return int(text[:6])


async def _images(service: Service, exchange: Exchange, lease: Lease, *, name: str | None, seconds: float) -> list[tuple[str, bytes]]:
    """Names and contents of the request's images."""
    settings = service.settings
    kind = exchange.headers.get(b"content-type", b"").lower().decode("latin-1")
    boundary = boundary_of(exchange.headers.get(b"content-type", b""))
    if boundary is None:
        if kind.startswith(_NO_IMAGE):
            raise RefusedError(415, "send one image file as the body, or several as multipart/form-data", reason="type")
        body = await whole_body(exchange, lease, limit_bytes=settings.max_body_bytes, seconds=seconds)
        return [(name if name is not None else _name_of(exchange), body)]
    parts = ImageParts(boundary, max_images=settings.max_images, options=_PARAMETERS)
    try:
        async for piece in pieces(exchange, lease, limit_bytes=settings.max_body_bytes, seconds=seconds):
            parts.feed(piece)
        return parts.images()
    finally:
        parts.forget()


def _name_of(exchange: Exchange) -> str:
    """The file name in Content-Disposition, else none."""
    disposition = exchange.headers.get(b"content-disposition")
    if disposition is None:
        return ""
    return parse_options_header(disposition.decode("latin-1"))[1].get(b"filename", b"").decode("utf-8", errors="replace")
