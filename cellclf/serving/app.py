"""The FastAPI half of a service: metadata, cards, metrics and the pages about them. What must be quick is the gate's, health too."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import cellclf
from cellclf.serving.documentation import page_of
from cellclf.serving.models import ServedModel
from cellclf.serving.openapi import with_quick_verbs
from cellclf.serving.pages import add_page
from cellclf.serving.refusals import RefusedError
from cellclf.serving.service import Service
from cellclf.serving.tensors import INPUT

__all__ = ["create_app"]

_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class ServerMetadata(BaseModel):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor of a model; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model as the Open Inference Protocol describes it. Its input may also come as BYTES [-1] of encoded images.

    parameters: how whoever sends pixels must resize, as `resize`.
    """

    name: str
    versions: list[str]
    platform: str
    parameters: dict[str, str]
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """The model answers."""

    name: str
    ready: bool


class ModelSummary(BaseModel):
    """A model in service."""

    name: str
    version: str
    default: bool
    sha256: str
    provider: str
    labels: list[str]
    resize: str


def create_app(service: Service) -> FastAPI:
    """The ASGI application behind the gate."""
    app = FastAPI(
        title="cellclf",
        version=cellclf.__version__,
        description="Names what images show. Research and education; not a medical device.",
        docs_url=None,
        redoc_url=None,
    )
    _add_metrics(app, service)
    _add_protocol(app, service)
    _add_models(app, service)
    _add_pages(app)
    add_page(app)
    for kind, handler in ((RefusedError, _on_refused), (HTTPException, _on_http), (RequestValidationError, _on_invalid)):
        app.add_exception_handler(kind, handler)
    return app


def _add_metrics(app: FastAPI, service: Service) -> None:
    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus metrics."""
        service.metrics.ready.set(not service.admission.leaving)
        return Response(service.metrics.text(), media_type=service.metrics.CONTENT_TYPE)


def _add_protocol(app: FastAPI, service: Service) -> None:
    @app.get("/v2", tags=["Open Inference Protocol"])
    async def server() -> ServerMetadata:
        """What serves, and which extensions of the protocol it has."""
        return ServerMetadata(name="cellclf", version=cellclf.__version__, extensions=["binary_tensor_data", "classification"])

    async def metadata(model_name: str, version: str | None = None) -> ModelMetadata:
        """The model's tensors."""
        return _metadata(service.models.find(model_name, version), service)

    async def ready(model_name: str, version: str | None = None) -> ModelReady:
        """Whether the model answers: one that is in service does."""
        return ModelReady(name=service.models.find(model_name, version).name, ready=True)

    errors: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such model, or version."}}
    for path in ("/v2/models/{model_name}", "/v2/models/{model_name}/versions/{version}"):
        suffix = "_version" if "version}" in path else ""
        for end, answer in (("", metadata), ("/ready", ready)):
            app.get(path + end, tags=["Open Inference Protocol"], responses=errors, operation_id=f"model_{answer.__name__}{suffix}")(answer)


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/models", tags=["models"])
    async def models() -> list[ModelSummary]:
        """Every version in service."""
        return [_summary(model, service) for model in service.models]

    @app.get("/models/{model_name}", tags=["models"], responses={404: {"description": "There is no such model, or version."}})
    async def card(model_name: str, version: str | None = None) -> dict[str, Any]:
        """The card in the model's file: labels, test metrics with intervals, intended use, licence, where it comes from."""
        found = service.models.find(model_name, version)
        document = found.classifier.card.model_dump(mode="json", exclude={"golden", "recipe"})
        return {"served_as": found.name, "version": found.version, "sha256": found.classifier.fingerprint, "card": document}


def _add_pages(app: FastAPI) -> None:
    made: dict[str, Any] = {}
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(with_quick_verbs(described()))
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation extends it

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page_of(openapi()), headers={"content-security-policy": _DOCS_POLICY})


def _metadata(model: ServedModel, service: Service) -> ModelMetadata:
    labels = len(model.classifier.labels)
    return ModelMetadata(
        name=model.name,
        versions=[each.version for each in service.models.versions(model.name)],
        platform="onnxruntime_onnx",
        parameters={"resize": model.classifier.card.resize},
        inputs=[TensorMetadata(name=INPUT, datatype="UINT8", shape=[-1, *model.size_px, 3])],
        outputs=[
            TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, labels]),
            TensorMetadata(name="label", datatype="BYTES", shape=[-1]),
            TensorMetadata(name="abstained", datatype="BOOL", shape=[-1]),
        ],
    )


def _summary(model: ServedModel, service: Service) -> ModelSummary:
    return ModelSummary(
        name=model.name,
        version=model.version,
        default=service.models.find(model.name) is model,
        sha256=model.classifier.fingerprint,
        provider=model.classifier.provider,
        labels=list(model.classifier.labels),
        resize=model.classifier.card.resize,
    )


async def _on_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)
