"""Kopf, as far as a process without a cluster shows it."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.client.configuration import Configuration

from vllm_operator.controller import handlers
from vllm_operator.lifecycle.kinds import DEPLOYMENTS, SERVERS, STORED


async def test_watching_needs_no_user_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    async def credentials() -> Configuration:
        return Configuration(host="http://127.0.0.1:9")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.delenv("POD_ID", raising=False)
    registry = handlers.build_registry(print, credentials, STORED)
    started = asyncio.Event()
    watching = asyncio.create_task(
        handlers.watch_forever(
            registry, (), asyncio.Event(), started, identity="me", streaming=False
        )
    )
    running = asyncio.create_task(started.wait())
    await asyncio.wait([watching, running], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert started.is_set()


def test_kopf_writes_nothing_and_waits_for_nothing_without_end() -> None:
    settings = handlers.operator_settings(streaming=True)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.networking.request_timeout == 30
    assert settings.networking.connect_timeout == 5
    assert settings.watching.connect_timeout == 5
    assert settings.watching.server_timeout == 240
    assert settings.watching.client_timeout == 300
    assert settings.watching.chunk_size == 50
    assert settings.queueing.idle_timeout == 0.05
    assert settings.queueing.exit_timeout == 0.5


def test_kopf_s_storages_store_nothing() -> None:
    persistence = handlers.operator_settings(streaming=True).persistence
    diffs: Any = persistence.diffbase_storage
    progress: Any = persistence.progress_storage
    assert diffs.build() == {}
    assert diffs.fetch() is None
    assert diffs.store() is None
    assert progress.fetch() is None
    assert progress.store() is None
    assert progress.purge() is None
    assert progress.touch() is None
    assert progress.clear(essence={"a": 1}) == {"a": 1}


@pytest.mark.parametrize("streaming", [True, False])
def test_the_first_list_comes_as_a_stream_where_the_api_server_can(streaming: bool) -> None:
    assert handlers.operator_settings(streaming=streaming).watching.initial_streaming is streaming


def test_children_are_selected_by_the_api_server_and_servers_are_not() -> None:
    selectors = handlers.operator_settings(streaming=True).watching.label_selectors
    assert selectors["apps", "v1", "deployments"] == "vllm-operator.io/server"
    assert selectors["", "v1", "pods"] == "vllm-operator.io/server"
    assert SERVERS.where not in selectors


def built(monkeypatch: pytest.MonkeyPatch, **configured: Any) -> dict[str, Any]:
    """The functions that are handed to Kopf, by what they are for, and what the sink took."""
    found: dict[str, Any] = {"taken": []}

    def login(**_: Any) -> Callable[[Any], Any]:
        return lambda function: found.setdefault("login", function)

    def event(*where: str, **options: Any) -> Callable[[Any], Any]:
        return lambda function: found.setdefault((where, options["id"]), function)

    async def credentials() -> Any:
        return SimpleNamespace(**configured)

    monkeypatch.setattr(handlers.kopf.on, "login", login)
    monkeypatch.setattr(handlers.kopf.on, "event", event)
    handlers.build_registry(lambda *news: found["taken"].append(news), credentials, STORED)
    return found


async def test_every_event_of_a_watched_kind_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(monkeypatch)
    for kind in (SERVERS, DEPLOYMENTS):
        await found[kind.where, kind.kind](event={"type": "ADDED", "object": {"a": kind.kind}})
    assert found["taken"] == [
        ("VLLMServer", "ADDED", {"a": "VLLMServer"}),
        ("Deployment", "ADDED", {"a": "Deployment"}),
    ]


@pytest.mark.parametrize(
    ("header", "token"), [("Bearer secret", "secret"), ("secret", "secret"), (None, None)]
)
async def test_kopf_logs_in_as_the_operator_itself(
    monkeypatch: pytest.MonkeyPatch, header: str | None, token: str | None
) -> None:
    async def prefixed(name: str) -> str | None:
        assert name == "BearerToken"
        return header

    found = built(
        monkeypatch,
        host="https://api",
        ssl_ca_cert="/ca",
        verify_ssl=True,
        cert_file="/cert",
        key_file="/key",
        get_api_key_with_prefix=prefixed,
    )
    info = await found["login"]()
    assert info.server == "https://api"
    assert info.token == token
    assert info.insecure is False
    assert (info.ca_path, info.certificate_path, info.private_key_path) == ("/ca", "/cert", "/key")


@pytest.mark.parametrize("namespaces", [(), ("a", "b")])
async def test_kopf_watches_the_cluster_or_the_namespaces_it_is_given(
    monkeypatch: pytest.MonkeyPatch, namespaces: tuple[str, ...]
) -> None:
    told: dict[str, Any] = {}

    async def operator(**options: Any) -> None:
        told.update(options)

    monkeypatch.setattr(handlers.kopf, "operator", operator)
    stop, started = asyncio.Event(), asyncio.Event()
    registry: Any = object()
    await handlers.watch_forever(registry, namespaces, stop, started, identity="me", streaming=True)
    assert told.pop("settings").watching.initial_streaming is True
    assert told == {
        "registry": registry,
        "identity": "me",
        "standalone": True,
        "clusterwide": not namespaces,
        "namespaces": namespaces,
        "stop_flag": stop,
        "ready_flag": started,
    }
