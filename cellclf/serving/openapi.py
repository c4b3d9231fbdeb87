"""The OpenAPI description of the two verbs that the gate answers itself, added to what FastAPI knows."""

from typing import Any

from cellclf.serving.tensors import InferenceBody

__all__ = ["with_quick_verbs"]

_ERROR = {"application/json": {"schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}}
_REFUSALS = {
    "400": "The request is not what it says it is.",
    "401": "An API key is needed.",
    "404": "There is no such model, or version.",
    "408": "The body did not come in time.",
    "413": "Too many bytes or images.",
    "415": "A type of body that is not read.",
    "429": "This client sent too much; see Retry-After.",
    "503": "It would wait too long, or the service ends; see Retry-After.",
    "504": "Not answered by its deadline.",
}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 1}
_RECORD = {
    "type": "object",
    "required": ["path", "model", "provider"],
    "properties": {
        "path": {"type": "string", "description": "The file name given."},
        "label": {"type": "string"},
        "probability": _NUMBER,
        "probabilities": {"type": "object", "additionalProperties": _NUMBER},
        "abstained": {"type": "boolean", "description": "The model gives no answer here; a person should look."},
        "top": {"type": "array", "items": {"type": "object", "properties": {"label": {"type": "string"}, "probability": _NUMBER}}},
        "heatmaps": {
            "type": "object",
            "description": "With explain: for each label, rows of how much each place of the image speaks for it (Grad-CAM), at least 0.",
            "additionalProperties": {"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": 0}}},
        },
        "seen": {
            "type": "array",
            "description": "With explain: left, top, right and bottom edge of what the network saw, in shares of the upright image.",
            "items": _NUMBER,
            "minItems": 4,
            "maxItems": 4,
        },
        "error": {"type": "string", "description": "Why the image could not be used; then there is no label."},
        "model": {"type": "string", "description": "The file's SHA-256."},
        "provider": {"type": "string"},
    },
}
_RECORDS = {"application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}}}
_OUTPUTS = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"]}},
    },
}
_FILE = {"type": "string", "format": "binary"}
_TIMEOUT = {
    "name": "X-Timeout-Ms",
    "in": "header",
    "description": "When the answer is wanted, in milliseconds; at most the service's own deadline.",
    "schema": {"type": "integer", "minimum": 1},
}


def with_quick_verbs(document: dict[str, Any]) -> dict[str, Any]:
    """The document with POST /predict, both POST …/infer, and the keys."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    body = InferenceBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= body.pop("$defs", {})
    schemas |= {"InferenceBody": body, "Record": _RECORD, "InferenceAnswer": _OUTPUTS}
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"header": []}, {}]
    document["paths"]["/predict"] = {"post": _predict()}
    for name, text in (("live", "Whether the process answers."), ("ready", "Whether requests are let in: until SIGTERM.")):
        document["paths"][f"/v2/health/{name}"] = {"get": _health(name, text)}
    for path in ("/v2/models/{model_name}/infer", "/v2/models/{model_name}/versions/{version}/infer"):
        document["paths"][path] = {"post": _infer(path)}
    return document


def _predict() -> dict[str, Any]:
    return {
        "tags": ["predict"],
        "operationId": "predict",
        "summary": "Name what images show",
        "description": "One record an image, in order, as `cellclf predict --json` prints them; an image that cannot be read is an error record.",
        "parameters": [
            _query("model", "The model's name. Default: the first.", {"type": "string"}),
            _query("version", "Its version. Default: the newest.", {"type": "string"}),
            _query("top_k", "Show so many labels an image.", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1}),
            _query("explain", "Tell where the network looked, as `heatmaps`.", {"type": "boolean", "default": False}),
            _query("name", "The path in the record of a raw body.", {"type": "string"}),
            _TIMEOUT,
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["image"], "properties": {"image": {"type": "array", "minItems": 1, "items": _FILE}}}
                },
                "application/octet-stream": {"schema": _FILE},
                "image/*": {"schema": _FILE},
            },
        },
        "responses": {
            "200": {"description": "The records.", "content": _RECORDS},
            "422": {"description": "None of the images could be read, or a parameter is wrong.", "content": {"application/json": {"schema": {}}}},
            **_refusals(),
        },
    }


def _infer(path: str) -> dict[str, Any]:
    names = ["model_name", *(["version"] if "{version}" in path else [])]
    return {
        "tags": ["Open Inference Protocol"],
        "operationId": "infer_version" if "{version}" in path else "infer",
        "summary": "Infer",
        "description": "Input `image`: UINT8 [batch, height, width, 3], or BYTES [batch] of encoded images (in JSON as base64). "
        "Binary tensors follow the JSON, whose length is then the header Inference-Header-Content-Length.",
        "parameters": [*({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names), _TIMEOUT],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceBody"}}}},
        "responses": {
            "200": {
                "description": "The outputs: probabilities, label, abstained.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceAnswer"}}},
            },
            **_refusals(),
        },
    }


def _health(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}
    content = {"application/json": {"schema": schema}}
    answers = {"200": {"description": "Yes.", "content": content}, "503": {"description": "No.", "content": content}}
    return {"tags": ["health"], "operationId": f"health_{name}", "summary": text, "security": [], "responses": answers}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _refusals() -> dict[str, Any]:
    return {status: {"description": text, "content": _ERROR} for status, text in _REFUSALS.items()}
