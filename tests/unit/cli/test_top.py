"""What ``vllm-operator top`` shows of servers, with metrics and without."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from support.builders import make_plan, server_manifest
from support.intervals import intervals
from vllm_operator.cli import cluster, top
from vllm_operator.cli.main import main
from vllm_operator.controller.sources.prometheus import Answer
from vllm_operator.errors import ApiError, InputError
from vllm_operator.manifests.labels import SERVER_LABEL
from vllm_operator.tuning.samples import Reading


def server(name: str, namespace: str = "default") -> dict[str, Any]:
    body = server_manifest(name, namespace)
    body["status"] = {
        "plan": make_plan(name).to_json_object(),
        "summary": {"ready": "1/1", "gpus": "2 x H100"},
    }
    return body


def pod(name: str, namespace: str = "default") -> dict[str, Any]:
    labels = {SERVER_LABEL: name, "app.kubernetes.io/component": "engine"}
    ready = {"type": "Ready", "status": "True"}
    metadata = {"name": f"{name}-1", "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "status": {"conditions": [ready]}}


class Source:
    """A Prometheus whose newest sample is of now."""

    def __init__(self, **given: float) -> None:
        self.given = given

    async def read(self, wanted: Any, durations: Any) -> dict[tuple[str, str], Answer]:
        ones = intervals(20, **self.given)
        since = time.time() - ones[-1].end
        ones = [replace(one, end=one.end + since) for one in ones]
        reading = {"intervals": tuple(ones), "newest": ones[-1].end, "scrape": 15.0}
        return {one.key: Answer(Reading(one.pod, **reading)) for one in wanted}

    def close(self) -> None:
        pass


class Client:
    """Servers and their pods."""

    def __init__(self, *servers: dict[str, Any], pods: Any = None) -> None:
        self.servers = servers
        self.pods = [pod(one["metadata"]["name"], one["metadata"]["namespace"]) for one in servers]
        self.forbidden = pods

    async def pages(self, kind: Any, namespace: Any, _selector: Any) -> AsyncIterator[list[Any]]:
        if kind.kind == "Pod" and self.forbidden:
            raise self.forbidden
        objects = self.servers if kind.kind == "VLLMServer" else self.pods
        yield [one for one in objects if namespace in (None, one["metadata"]["namespace"])]


def show(
    monkeypatch: pytest.MonkeyPatch, client: Client, *arguments: str, source: Any = None
) -> Result:
    @asynccontextmanager
    async def connected(kind: Any, _remedy: str) -> AsyncIterator[Any]:
        yield kind(client)

    async def source_of(*_: Any) -> Source:
        if source is None:
            raise InputError("no Service has the usual labels; name one by --prometheus")
        found: Source = source
        return found

    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(top, "source_of", source_of)
    return CliRunner().invoke(main, ["top", *arguments], env={"COLUMNS": "160"})


def test_a_row_has_the_figures_of_a_server_and_what_bounds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(running=256.0, waiting=12.0, cached_tokens=24_000.0)
    found = show(monkeypatch, Client(server("qwen")), "-n", "default", "--once", source=source)
    assert found.exit_code == 0, found.output
    row = next(line for line in found.output.splitlines() if line.startswith("qwen"))
    for cell in ("1/1", "2 x H100", "100 ms", "15 ms", "256.0", "12.0", "2%", "50%", "Sequences"):
        assert cell in row
    assert "over the last 5 min" in found.output


def test_all_namespaces_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server("qwen", "a"), server("qwen", "b"))
    found = show(monkeypatch, client, "-A", source=Source())
    assert ("a/qwen" in found.output, "b/qwen" in found.output) == (True, True)


def test_servers_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server("qwen"), server("llama"))
    assert "llama" not in show(monkeypatch, client, "qwen", "-n", "default", source=Source()).output
    missing = show(monkeypatch, client, "nobody", "-n", "default", source=Source())
    assert missing.exit_code == 2
    assert "there is no server nobody in default" in missing.output


def test_without_prometheus_servers_are_shown_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = show(monkeypatch, Client(server("qwen")), "-n", "default")
    assert found.exit_code == 0
    assert "1/1" in found.output
    assert "name one by --prometheus" in found.output


def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server("qwen"), pods=ApiError(403, "Forbidden", "no"))
    found = show(monkeypatch, client, "-n", "default", source=Source())
    assert found.exit_code == 0
    assert "you may not list pods in namespace default" in found.output


def test_scripts_get_figures_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server("qwen"))
    found = show(monkeypatch, client, "-n", "default", "-o", "json", source=Source())
    (one,) = json.loads(found.output)
    assert one["boundBy"] == "Load"
    assert "places are asked for" in one["why"]
    assert one["figures"]["requestsPerSecond"] == 2.0
    bare = json.loads(show(monkeypatch, client, "-n", "default", "-o", "json").output)
    assert (bare[0]["figures"], bare[0]["boundBy"]) == (None, None)


def test_a_terminal_is_shown_look_after_look_until_somebody_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(Console, "is_terminal", True)
    client = Client(server("qwen"))
    found = show(monkeypatch, client, "-n", "default", "--every", "3", source=Source())
    assert (found.exit_code, slept) == (0, [3.0, 3.0])
    assert "qwen" in found.output


def test_a_namespace_without_servers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = show(monkeypatch, Client(), "-n", "default", source=Source())
    assert "There are no servers in default." in found.output


def test_a_plan_of_another_release_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    body = server("qwen")
    body["status"]["plan"] = {"from": "another release"}
    found = show(monkeypatch, Client(body), "-n", "default", source=Source())
    assert "its plan cannot be read: it is of another release" in found.output
