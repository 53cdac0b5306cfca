"""Posts Kubernetes events on servers. Edge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.kinds import EVENTS
from vllm_operator.lifecycle.notes import Note, Step, event

from .client import Client


class Events:
    """``instance`` is the process that they come from."""

    def __init__(self, client: Client, clock: Callable[[], datetime], instance: str) -> None:
        self._client = client
        self._clock = clock
        self._instance = instance

    async def post(self, server: VLLMServer, notes: Sequence[Note]) -> None:
        """Tell each note. One that fails is dropped: an event informs, and nothing waits for it."""
        for note in notes:
            await self._post(server, note)

    async def post_once(self, server: VLLMServer, steps: Sequence[Step]) -> None:
        """Tell each step that was not told before, by this process or another one."""
        for once, note in steps:
            await self._post(server, note, once)

    async def _post(self, server: VLLMServer, told: Note, once: str | None = None) -> None:
        now, instance = self._clock(), self._instance
        body = event(server, *told, now=now, instance=instance, once=once)
        with contextlib.suppress(ApiError, TemporaryFailure):
            await self._client.create(EVENTS, server.metadata.namespace, body)
