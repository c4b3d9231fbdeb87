"""POST /v2/models/{name}[/versions/{version}]/infer: the Open Inference Protocol's inference over HTTP."""

from cellclf.runtime.classifier import Failure, Prediction
from cellclf.serving.bodies import too_large, whole_body
from cellclf.serving.exchange import Exchange, Headers
from cellclf.serving.refusals import RefusedError
from cellclf.serving.service import Service
from cellclf.serving.tensor_answers import encode
from cellclf.serving.tensors import parse

__all__ = ["HEADER_LENGTH", "answer_inference"]

HEADER_LENGTH = b"inference-header-content-length"


async def answer_inference(service: Service, exchange: Exchange, name: str, version: str | None) -> None:
    """200 with the outputs; an image that cannot be read refuses the request, as a tensor has no place for an error. Raises RefusedError."""
    model = service.models.find(name, version)
    header_length = _header_length(exchange)
    exchange.refuse_compressed()
    settings = service.settings
    deadline = service.deadline(exchange)
    service.admission.enter(deadline)
    with service.budget.lease() as lease:
        with service.arriving():
            limit = settings.max_json_bytes if header_length is None else settings.max_body_bytes
            if header_length is not None and header_length > settings.max_json_bytes:
                raise too_large(header_length, settings.max_json_bytes, what="JSON")
            body = await whole_body(exchange, lease, limit_bytes=limit, seconds=deadline - exchange.started)
            request = parse(body, header_length, size_px=model.size_px, max_images=settings.max_images)
        deadline = service.deadline(exchange, request.timeout_s)
        records = await service.records(exchange, model, [("", image) for image in request.images], deadline=deadline)
    for number, record in enumerate(records):
        if isinstance(record, Failure):
            raise RefusedError(400, f"image {number} of the batch: {record.error}", reason="image")
    predictions = [record for record in records if isinstance(record, Prediction)]
    content, json_length = encode(request, predictions, name=model.name, version=model.version)
    headers: Headers = [(b"content-type", b"application/json")]
    if json_length is not None:
        headers = [(b"content-type", b"application/octet-stream"), (HEADER_LENGTH, str(json_length).encode())]
    await exchange.answer(200, content, headers)


def _header_length(exchange: Exchange) -> int | None:
    text = exchange.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 12:
        raise RefusedError(400, "Inference-Header-Content-Length is a number of bytes", reason="protocol")
    return int(text)
