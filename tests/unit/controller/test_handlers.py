"""Kopf, as far as a process without a cluster shows it."""

from __future__ import annotations

import asyncio
import contextlib
import getpass

import pytest
from kubernetes.aio.client.configuration import Configuration

from vllm_operator.controller import handlers
from vllm_operator.lifecycle.kinds import STORED


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
