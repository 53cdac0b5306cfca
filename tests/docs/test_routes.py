"""What examples and pages route to a server, and what they send to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from docs.support import ROOT, blocks, pages
from vllm_operator.api.base import PORT

Object = dict[str, Any]
OPENAI = "/v1"
"""Control paths of vLLM lie beside it, and no API key guards them."""

SHOWN = [
    *((path.name, path.read_text()) for path in sorted((ROOT / "examples").glob("*.yaml"))),
    *((str(block), block.text) for page in pages() for block in blocks(page, "yaml", "yml")),
]


def objects(kind: str) -> list[tuple[str, Object]]:
    """Objects of a kind that an example or a page shows, with where that is."""
    return [
        (where, document)
        for where, text in SHOWN
        for document in yaml.safe_load_all(text)
        if isinstance(document, dict) and document.get("kind") == kind
    ]


def paths_of_ingress(ingress: Object) -> Iterator[tuple[str, str]]:
    """Path and backend; a rule without a path means every path."""
    spec = ingress["spec"]
    if "defaultBackend" in spec:
        yield "/", str(spec["defaultBackend"])
    for rule in spec.get("rules", []):
        for one in rule["http"]["paths"]:
            service = one["backend"]["service"]
            assert service["port"] in ({"name": "http"}, {"number": PORT})
            assert one["pathType"] in ("Prefix", "Exact")
            yield one["path"], service["name"]


def paths_of_route(route: Object) -> Iterator[tuple[str, str]]:
    for rule in route["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert backend.get("port") == (None if backend.get("kind") else PORT)
            for match in rule.get("matches", [{}]):
                path = match.get("path", {})
                assert path.get("type", "PathPrefix") in ("PathPrefix", "Exact")
                yield path.get("value", "/"), backend["name"]


ROUTES = [
    *((where, list(paths_of_ingress(one))) for where, one in objects("Ingress")),
    *((where, list(paths_of_route(one))) for where, one in objects("HTTPRoute")),
]


def test_there_is_a_route_of_each_kind() -> None:
    assert {where for where, _ in ROUTES} >= {
        "15-ingress.yaml",
        "16-http-route.yaml",
        "17-inference-pool.yaml",
    }


@pytest.mark.parametrize(("where", "paths"), ROUTES, ids=[where for where, _ in ROUTES])
def test_a_route_leads_to_the_paths_of_openai_alone(
    where: str, paths: list[tuple[str, str]]
) -> None:
    assert paths
    assert [path for path, _ in paths if path != OPENAI and not path.startswith(f"{OPENAI}/")] == []


@pytest.mark.parametrize(("where", "paths"), ROUTES, ids=[where for where, _ in ROUTES])
def test_a_route_leads_to_a_server_that_stands_beside_it(
    where: str, paths: list[tuple[str, str]]
) -> None:
    servers = {one["metadata"]["name"] for place, one in objects("VLLMServer") if place == where}
    assert {backend for _, backend in paths} <= servers


def completions() -> list[tuple[str, Object]]:
    """Bodies of the chat completions that pages send by curl."""
    return [
        (str(block), json.loads(body))
        for page in pages()
        for block in blocks(page, "sh", "console")
        for body in re.findall(r"/v1/chat/completions.*?-d '(\{.*?\})'$", block.text, re.M | re.S)
    ]


def test_a_chat_completion_that_a_page_shows_asks_for_the_minimal_server_s_model() -> None:
    found = completions()
    assert {where.rsplit(":", 1)[0] for where, _ in found} == {"README.md", "docs/routing.md"}
    example = yaml.safe_load((ROOT / "examples" / "01-minimal.yaml").read_text())
    for _, body in found:
        assert body["model"] == example["spec"]["model"]["id"]
        assert body["messages"][0].keys() == {"role", "content"}
