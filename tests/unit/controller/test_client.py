"""What the operator's client sends and makes of the answers, over a real connection."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from localcluster.components import kubeconfig
from vllm_operator.controller.client import (
    Client,
    ServiceAddress,
    current_namespace,
    last_bytes,
    load_configuration,
)
from vllm_operator.controller.metrics import Metrics
from vllm_operator.errors import ApiError, NamespaceTerminating, TemporaryFailure
from vllm_operator.lifecycle.kinds import DEPLOYMENTS, LEADER_WORKER_SETS, LEASES, NODES

TLS = ssl.PROTOCOL_TLS_CLIENT
ONE = {"metadata": {"name": "one"}}
DEPLOYMENT_PATH = "/apis/apps/v1/namespaces/default/deployments/qwen"


@dataclass
class Wire:
    """Answers what it is told, and notes what came; nothing is decided here."""

    client: Client
    metrics: Metrics
    answers: list[tuple[int, str]] = field(default_factory=list)
    came: list[tuple[str, str, dict[str, str], str, str]] = field(default_factory=list)
    """Method, path, query, type of content, content."""

    async def take(self, request: web.Request) -> web.Response:
        sort = request.headers.get("Content-Type", "")
        text = await request.text()
        self.came.append((request.method, request.path, dict(request.query), sort, text))
        status, answer = self.answers.pop(0)
        return web.Response(status=status, text=answer, content_type="application/json")

    def says(self, status: int, answer: Any) -> None:
        self.answers.append((status, answer if isinstance(answer, str) else json.dumps(answer)))

    def counted(self, verb: str, code: str) -> float | None:
        labels = {"verb": verb, "code": code}
        return self.metrics.registry.get_sample_value("vllm_operator_api_requests_total", labels)


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reading this machine's would take longer than a test.
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: ssl.SSLContext(TLS))


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    configuration, metrics = Configuration(), Metrics()
    wire = Wire(Client(ApiClient(configuration), metrics), metrics)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", wire.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    configuration.host = f"http://{host}:{port}"
    yield wire
    await wire.client.close()
    await runner.cleanup()


async def test_one_object_is_read_and_counted(wire: Wire) -> None:
    wire.says(200, ONE)
    assert await wire.client.get(NODES, None, "one") == ONE
    assert wire.came[0][:3] == ("GET", "/api/v1/nodes/one", {})
    assert wire.counted("GET", "200") == 1


async def test_what_does_not_exist_is_none_and_what_is_refused_an_error(wire: Wire) -> None:
    wire.says(404, {"reason": "NotFound"})
    assert await wire.client.get(NODES, None, "one") is None
    wire.says(403, {"reason": "Forbidden", "message": "not you"})
    with pytest.raises(ApiError) as refused:
        await wire.client.get(NODES, None, "one")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert refused.value.message == "not you"
    assert wire.counted("GET", "403") == 1


async def test_a_refusal_that_is_not_json_is_told_in_part(wire: Wire) -> None:
    wire.says(502, "<" + "p" * 300)
    with pytest.raises(ApiError) as refused:
        await wire.client.get(NODES, None, "one")
    assert refused.value.code == 502
    assert refused.value.reason == "Bad Gateway"
    assert len(refused.value.message) == 200


async def test_no_answer_is_a_temporary_failure_and_counted() -> None:
    metrics = Metrics()
    client = Client(ApiClient(Configuration(host="http://127.0.0.1:1")), metrics)
    with pytest.raises(TemporaryFailure, match="did not answer"):
        await client.get(NODES, None, "one")
    labels = {"verb": "GET", "code": "none"}
    assert metrics.registry.get_sample_value("vllm_operator_api_requests_total", labels) == 1
    await client.close()


async def test_a_list_is_read_page_by_page_of_fifty(wire: Wire) -> None:
    wire.says(200, {"metadata": {"continue": "more"}, "items": [ONE]})
    wire.says(200, {"metadata": {}, "items": None})
    pages = [page async for page in wire.client.pages(DEPLOYMENTS, "default", "label")]
    assert pages == [[ONE], []]
    queries = [query for _, _, query, _, _ in wire.came]
    first = {"limit": "50", "labelSelector": "label"}
    assert queries == [first, {**first, "continue": "more"}]
    assert wire.came[0][1] == "/apis/apps/v1/namespaces/default/deployments"
    assert wire.counted("LIST", "200") == 2


async def test_without_a_selector_everything_is_listed(wire: Wire) -> None:
    wire.says(200, {"metadata": {}, "items": [ONE]})
    assert [page async for page in wire.client.pages(NODES, None)] == [[ONE]]
    assert wire.came[0][1:3] == ("/api/v1/nodes", {"limit": "50"})


async def test_a_service_is_asked_through_the_proxy_and_counted(wire: Wire) -> None:
    service = ServiceAddress("models", "qwen", "8000")
    wire.says(200, {"data": 1})
    assert json.loads(await wire.client.through_service(service, "/v1/models", {"a": "b c"}))
    wire.says(200, {"data": 2})
    await wire.client.through_service(service, "v1/completions", body={"prompt": "x"})
    where = "/api/v1/namespaces/models/services/http:qwen:8000/proxy/v1"
    assert wire.came[0][:3] == ("GET", f"{where}/models", {"a": "b c"})
    assert wire.came[1][:2] == ("POST", f"{where}/completions")
    assert json.loads(wire.came[1][4]) == {"prompt": "x"}
    assert wire.counted("PROXY", "200") == 2


async def test_a_log_is_read_from_its_beginning(wire: Wire) -> None:
    wire.says(200, "the first lines")
    found = await wire.client.beginning_of_log("default", "qwen-1", "engine", limit=9, seconds=1)
    assert found == "the first lines"
    path = "/api/v1/namespaces/default/pods/qwen-1/log"
    assert wire.came[0][:3] == ("GET", path, {"container": "engine", "limitBytes": "9"})


@pytest.mark.parametrize(
    ("context", "namespace"), [({"namespace": "models"}, "models"), ({}, "default")]
)
def test_the_namespace_is_that_of_the_current_context(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: dict[str, str], namespace: str
) -> None:
    named = {"name": "here", "context": {"cluster": "c", "user": "u", **context}}
    content = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [named]}
    content |= {"clusters": [{"name": "c", "cluster": {}}], "users": [{"name": "u", "user": {}}]}
    (tmp_path / "config").write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert current_namespace() == namespace
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    assert current_namespace() == "default"


async def test_an_object_is_created_in_its_namespace(wire: Wire) -> None:
    wire.says(201, ONE)
    assert await wire.client.create(LEASES, "default", {"a": 1}) == ONE
    method, path, query, sort, text = wire.came[0]
    assert (method, query, sort) == ("POST", {}, "application/json")
    assert path == "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    assert json.loads(text) == {"a": 1}


APPLIED = {"fieldManager": "vllm-operator", "fieldValidation": "Strict"}


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, {**APPLIED, "force": "true"}),
        ({"force": False}, APPLIED),
        ({"dry_run": True}, {**APPLIED, "force": "true", "dryRun": "All"}),
    ],
)
async def test_an_apply_names_its_manager_and_takes_fields_unless_told_otherwise(
    wire: Wire, options: dict[str, bool], query: dict[str, str]
) -> None:
    wire.says(200, ONE)
    assert await wire.client.apply(DEPLOYMENTS, "default", "qwen", {"a": 1}, **options) == ONE
    method, path, sent, sort, text = wire.came[0]
    assert (method, path, sent) == ("PATCH", DEPLOYMENT_PATH, query)
    assert sort == "application/apply-patch+yaml"
    assert json.loads(text) == {"a": 1}
    assert wire.counted("APPLY", "200") == 1


async def test_a_subresource_is_applied_at_its_own_path(wire: Wire) -> None:
    wire.says(200, ONE)
    await wire.client.apply(DEPLOYMENTS, "default", "qwen", {}, "status")
    assert wire.came[0][1] == f"{DEPLOYMENT_PATH}/status"


async def test_a_merge_patch_says_that_it_is_one(wire: Wire) -> None:
    wire.says(200, ONE)
    await wire.client.merge(LEASES, "default", "lease", {"spec": {}})
    method, path, query, sort, text = wire.came[0]
    assert (method, query, sort) == ("PATCH", {}, "application/merge-patch+json")
    assert path.endswith("/namespaces/default/leases/lease")
    assert json.loads(text) == {"spec": {}}


async def test_only_the_object_with_that_uid_is_deleted(wire: Wire) -> None:
    wire.says(200, ONE)
    await wire.client.delete(DEPLOYMENTS, "default", "qwen", uid="u")
    assert wire.came[0][:2] == ("DELETE", DEPLOYMENT_PATH)
    assert json.loads(wire.came[0][4]) == {"preconditions": {"uid": "u"}}
    wire.says(200, ONE)
    await wire.client.delete(DEPLOYMENTS, "default", "qwen")
    assert "preconditions" not in wire.came[1][4]


async def test_what_is_gone_need_not_be_deleted_and_a_successor_is_not(wire: Wire) -> None:
    wire.says(404, {"reason": "NotFound"})
    await wire.client.delete(DEPLOYMENTS, "default", "qwen", uid="u")
    wire.says(409, {"reason": "Conflict"})
    with pytest.raises(ApiError, match="Conflict"):
        await wire.client.delete(DEPLOYMENTS, "default", "qwen", uid="u")


async def read(wire: Wire, **options: Any) -> str:
    sought = {"previous": False, "lines": 7, "limit": 4, "seconds": 5.0, **options}
    return await wire.client.log("default", "pod", "engine", **sought)


async def test_of_a_log_the_last_bytes_are_kept(wire: Wire) -> None:
    wire.says(200, "first and last")
    assert await read(wire) == "last"
    method, path, query, _, _ = wire.came[0]
    assert (method, path) == ("GET", "/api/v1/namespaces/default/pods/pod/log")
    assert query == {"container": "engine", "tailLines": "7"}
    assert wire.counted("LOG", "200") == 1


async def test_the_log_of_the_container_before_is_asked_for_from_a_time_on(wire: Wire) -> None:
    wire.says(200, "")
    since = "2026-01-01T10:00:00Z"
    assert await read(wire, previous=True, since=since) == ""
    assert wire.came[0][2]["previous"] == "true"
    assert wire.came[0][2]["sinceTime"] == since


async def test_a_log_that_is_not_there_is_an_error_with_its_code(wire: Wire) -> None:
    wire.says(400, {"reason": "BadRequest", "message": "previous terminated container not found"})
    with pytest.raises(ApiError) as refused:
        await read(wire, previous=True)
    assert refused.value.code == 400


async def test_no_more_of_a_log_is_read_than_is_allowed() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"ab", b"cd", b"ef", b"gh"):
            yield chunk

    assert await last_bytes(chunks(), keep=3, most=100) == b"fgh"
    assert await last_bytes(chunks(), keep=3, most=6) == b"def"
    assert await last_bytes(chunks(), keep=3, most=5) == b"def"


@pytest.mark.parametrize(
    ("said", "number"), [({"minor": "34"}, 34), ({"minor": "27+"}, 27), ({"minor": ""}, 0), ({}, 0)]
)
async def test_the_minor_version_is_a_number(wire: Wire, said: Any, number: int) -> None:
    wire.says(200, said)
    assert await wire.client.minor_version() == number
    assert wire.came[0][1] == "/version"


@pytest.mark.parametrize(
    ("status", "answer", "serves"),
    [
        (200, {"resources": [{"name": "leaderworkersets"}]}, True),
        (200, {"resources": [{"name": "others"}]}, False),
        (200, {"resources": None}, False),
        (404, {}, False),
        (403, {}, False),
    ],
)
async def test_a_kind_is_there_where_its_group_lists_it(
    wire: Wire, status: int, answer: Any, serves: bool
) -> None:
    wire.says(status, answer)
    assert await wire.client.serves(LEADER_WORKER_SETS) == serves
    assert wire.came[0][1] == "/apis/leaderworkerset.x-k8s.io/v1"


async def test_whether_a_kind_is_there_is_not_guessed_where_the_api_server_fails(
    wire: Wire,
) -> None:
    wire.says(500, {})
    with pytest.raises(ApiError):
        await wire.client.serves(LEADER_WORKER_SETS)


async def test_the_kubeconfig_is_the_one_that_is_named_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        path = tmp_path / name
        path.write_text(kubeconfig(f"https://{name}", b"", "user", "token", "default"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        assert (await load_configuration()).host == f"https://{name}"


async def test_of_one_object_so_many_events_are_asked_for(wire: Wire) -> None:
    wire.says(200, {"items": [ONE]})
    assert await wire.client.events_of("default", "p1", 5) == [ONE]
    method, path, query, *_ = wire.came[0]
    assert (method, path) == ("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    assert query == {"fieldSelector": "regarding.uid=p1", "limit": "5"}


@pytest.mark.parametrize("causes", [[], [{"reason": "NamespaceTerminating"}]])
async def test_a_refusal_because_the_namespace_goes_is_one_of_its_own(
    wire: Wire, causes: list[dict[str, str]]
) -> None:
    status = {"reason": "Forbidden", "message": "no", "details": {"causes": causes}}
    wire.says(403, status)
    with pytest.raises(ApiError) as refused:
        await wire.client.create(DEPLOYMENTS, "default", ONE)
    assert isinstance(refused.value, NamespaceTerminating) is bool(causes)


@pytest.mark.parametrize("kind", ["namespaces", "deployments"])
async def test_what_is_made_in_a_namespace_that_is_gone_is_refused_because_the_namespace_goes(
    wire: Wire, kind: str
) -> None:
    wire.says(404, {"reason": "NotFound", "message": "no", "details": {"kind": kind}})
    with pytest.raises(ApiError) as refused:
        await wire.client.create(DEPLOYMENTS, "default", ONE)
    assert isinstance(refused.value, NamespaceTerminating) is (kind == "namespaces")
