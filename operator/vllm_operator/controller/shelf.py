"""The ConfigMap in which the operator keeps what outlives its process. Edge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.kinds import CALIBRATION, CONFIG_MAPS

from .client import Client
from .metrics import Metrics

LOG: Final = logging.getLogger("vllm_operator")


class Shelf:
    """Texts by key. What cannot be read or written is lost, and said in the log."""

    def __init__(self, client: Client, namespace: str, metrics: Metrics) -> None:
        self._client = client
        self._namespace = namespace
        self._metrics = metrics
        self._writes = asyncio.Lock()

    async def read(self) -> Mapping[str, str] | None:
        """Everything that is kept; None where it cannot be read."""
        try:
            found = await self._client.get(CONFIG_MAPS, self._namespace, CALIBRATION)
        except (ApiError, TemporaryFailure) as error:
            LOG.warning("no calibrations", extra={"error": str(error)})
            return None
        return (found or {}).get("data") or {}

    async def write(self, changed: Mapping[str, str | None]) -> None:
        """Keep some, and forget those that are None."""
        async with self._writes:
            try:
                await self._write(changed)
            except (ApiError, TemporaryFailure) as error:
                LOG.warning("a calibration is not kept", extra={"error": str(error)})

    async def _write(self, changed: Mapping[str, str | None]) -> None:
        body: dict[str, Any] = {"data": dict(changed)}
        try:
            await self._client.merge(CONFIG_MAPS, self._namespace, CALIBRATION, body)
        except ApiError as error:
            if error.code != 404:
                raise
            data = {key: text for key, text in changed.items() if text is not None}
            metadata = {"name": CALIBRATION, "namespace": self._namespace}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._client.create(CONFIG_MAPS, self._namespace, body)
        self._metrics.writes.labels("ConfigMap").inc()
