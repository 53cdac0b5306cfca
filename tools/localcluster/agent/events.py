"""Events as a kubelet posts them: the same thing said again raises a count."""

import asyncio
import contextlib
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

import aiohttp

from localcluster.agent.api import MERGE, Api
from localcluster.client import ApiError


def timestamp() -> str:
    """Now, as the API writes times."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Recorder:
    """Posts in the order in which it is told, without keeping anybody waiting."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: asyncio.Queue[tuple[dict[str, Any], str, str, str]] = asyncio.Queue()
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}

    def pod(
        self, pod: Mapping[str, Any], kind: str, reason: str, message: str, container: str = ""
    ) -> None:
        """An event of type `Normal` or `Warning` about a pod, or a container of it."""
        metadata = pod["metadata"]
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        if container:
            about["fieldPath"] = f"spec.containers{{{container}}}"
        self._queue.put_nowait((about, kind, reason, message))

    async def run(self) -> None:
        """Posts until it is cancelled; an event that cannot be posted is lost."""
        while True:
            event = await self._queue.get()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ApiError):
                await self._post(*event)

    async def _post(self, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
        path = f"/api/v1/namespaces/{about['namespace']}/events"
        key = (about["uid"], about.get("fieldPath", ""), kind, reason, message)
        now = timestamp()
        if key in self._known:
            name, count = self._known[key]
            self._known[key] = (name, count + 1)
            change = {"count": count + 1, "lastTimestamp": now}
            await self._api.request("PATCH", f"{path}/{name}", change, MERGE)
            return
        name = f"{about['name']}.{uuid.uuid4().hex[:16]}"
        await self._api.request(
            "POST",
            path,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": about["namespace"]},
                "involvedObject": about,
                "type": kind,
                "reason": reason,
                "message": message[:1024],
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "kubelet", "host": self._node},
                "reportingComponent": "kubelet",
                "reportingInstance": self._node,
            },
        )
        self._known[key] = (name, 1)
