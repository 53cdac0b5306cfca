"""Posts Kubernetes events on servers. Edge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.kinds import EVENTS
from vllm_operator.lifecycle.notes import Note, event

from .client import Client


class Events:
    """``instance`` is the process that they come from."""

    def __init__(self, client: Client, clock: Callable[[], datetime], instance: str) -> None:
        self._client = client
        self._clock = clock
        self._instance = instance

    async def post(self, server: VLLMServer, notes: Sequence[Note]) -> None:
        """Tell each note. One that fails is dropped: an event informs, and nothing waits for it."""
        for kind, reason, action, note in notes:
            body = event(
                server, kind, reason, action, note, now=self._clock(), instance=self._instance
            )
            with contextlib.suppress(ApiError, TemporaryFailure):
                await self._client.create(EVENTS, server.metadata.namespace, body)
