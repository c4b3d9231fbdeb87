"""The manifests of docs/deploy/ as tests read them."""

import re
from typing import Any

import yaml

from tests.deploy.dockerfile import ROOT

DEPLOY = ROOT / "docs" / "deploy"


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a file by kind, of which each is there once."""
    return {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))}


def bytes_of(quantity: str) -> int:
    """Bytes of a quantity as Kubernetes writes memory."""
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert found is not None, quantity
    return int(found[1]) * {"Mi": 1 << 20, "Gi": 1 << 30}[found[2]]


KUBERNETES, KSERVE = documents("kubernetes.yaml"), documents("kserve.yaml")
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINERS: dict[str, dict[str, Any]] = {"kubernetes": POD["containers"][0], "kserve": KSERVE["ServingRuntime"]["spec"]["containers"][0]}
