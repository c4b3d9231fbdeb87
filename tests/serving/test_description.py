"""The OpenAPI description: it is one, it is complete, and what schemathesis makes of it never gets a 5xx or an undescribed answer."""

import contextlib
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.serving.conftest import MODEL, Running, serving

EXAMPLES = 25


@pytest.mark.parametrize("mode", GenerationMode)
def test_what_the_description_allows_or_does_not_is_answered_as_it_says(mode: GenerationMode) -> None:
    """Allowed or not, an answer has a status, a type and a form that are described, and is never a 5xx but for the described refusals."""
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    met: set[str] = set()

    def check(operation: Any) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def every(case: Any) -> None:
            if len(str(case.path_parameters.get("model_name", ""))) % 2:
                case.path_parameters["model_name"] = MODEL
            case.call_and_validate(checks=checks)
            met.add(operation.label)

        every()

    with serving(max_pixels=100_000) as running:
        operations = [found.ok() for found in schemathesis.openapi.from_url(f"{running.server.address}/openapi.json").get_all_operations()]
        assert len(operations) == 13
        for operation in operations:
            with contextlib.suppress(Unsatisfiable):  # what has no parameters has none that could be wrong
                check(operation)
    everything = {operation.label for operation in operations}
    assert met >= ({"POST /predict", "POST /v2/models/{model_name}/infer"} if mode is GenerationMode.NEGATIVE else everything)


def test_every_route_is_described(running: Running) -> None:
    document = running.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {
        "/predict",
        "/metrics",
        "/models",
        "/models/{model_name}",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model_name}",
        "/v2/models/{model_name}/ready",
        "/v2/models/{model_name}/infer",
        "/v2/models/{model_name}/versions/{version}",
        "/v2/models/{model_name}/versions/{version}/ready",
        "/v2/models/{model_name}/versions/{version}/infer",
    }
    operations = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(operations) == len(set(operations))


def test_the_page_shows_every_route_and_nothing_from_elsewhere(running: Running) -> None:
    page = running.client.get("/docs")
    assert all(path in page.text for path in running.client.get("/openapi.json").json()["paths"])
    assert not re.search(r"<script|https?://|src=", page.text)
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
