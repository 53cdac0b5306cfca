"""Jobs that measure, made and followed under the rights of whoever calls. Edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from vllm_operator.benchmark.jobs import CONTAINER
from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.lifecycle.kinds import JOBS, PODS, Resource

from .cluster import Object, Reader

POLL_SECONDS: Final = 1.0
LOG_SECONDS: Final = 30.0
LOG_LINES: Final = 50_000
LOG_BYTES: Final = 4 * 1024 * 1024
LAST_LINES: Final = 15
"""Of the log of a Job that failed, for its reader."""
PATIENCE: Final = 60
"""Looks in a row that the API server may leave unanswered."""
COMPLETE: Final = "Complete"
OF_JOB: Final = "batch.kubernetes.io/job-name"

LogWatcher = Callable[[str, str], None]
"""Told the whole lines of a Job's log so far, and of a pod that does not run why."""


class Jobs(Reader):
    """Those of one namespace."""

    def __init__(self, client: Any, namespace: str, rights: str) -> None:
        super().__init__(client, rights)
        self.namespace = namespace

    async def create(self, resource: Resource, body: Object) -> None:
        """Make an object."""
        made = self.client.create(resource, self.namespace, body)
        await self.may(made, "create", resource.plural, self.namespace)

    async def merge(self, resource: Resource, name: str, changed: Object) -> None:
        """Change an object."""
        merged = self.client.merge(resource, self.namespace, name, changed)
        await self.may(merged, "patch", resource.plural, self.namespace)

    async def begin(self, job: Object) -> None:
        """Make a Job."""
        await self.create(JOBS, job)

    async def delete(self, job: str) -> None:
        """Delete a Job, and its pod with it: the API server's default would leave that."""
        deleted = self.client.delete(JOBS, self.namespace, job, background=True)
        await self.may(deleted, "delete", JOBS.plural, self.namespace)

    async def ended(self, job: str, watcher: LogWatcher) -> str:
        """The whole log of a Job that has ended well. Raises ``InputError`` where it failed."""
        failures = 0
        while True:
            try:
                ended, text, waits = await self._look(job)
            except TemporaryFailure:
                # The Job goes on, and so does this once the API server answers again.
                failures += 1
                if failures > PATIENCE:
                    raise
            else:
                failures = 0
                if ended == COMPLETE:
                    return text
                if ended is not None:
                    raise ended_badly(job, ended, text)
                watcher(text[: text.rfind("\n") + 1], waits)
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, job: str) -> tuple[str | None, str, str]:
        """How the Job ended, what its log says, and why its pod waits. Raises TemporaryFailure."""
        found = await self.get(JOBS, self.namespace, job)
        if found is None:
            raise InputError(f"the Job {job} was deleted before it had a result")
        pod = await self._pod(job)
        if pod is None:
            return _ended(found), "", ""
        return _ended(found), await self._log(pod), _waits(pod)

    async def _pod(self, job: str) -> Object | None:
        pods = await self.listed(PODS, self.namespace, f"{OF_JOB}={job}")
        return max(pods, key=lambda one: one["metadata"]["creationTimestamp"], default=None)

    async def _log(self, pod: Object) -> str:
        read = self.client.log(
            self.namespace,
            pod["metadata"]["name"],
            CONTAINER,
            previous=False,
            lines=LOG_LINES,
            limit=LOG_BYTES,
            seconds=LOG_SECONDS,
        )
        try:
            text: str = await self.may(read, "get", "pods/log", self.namespace)
        except ApiError:
            return ""  # a container that has not started has none
        return text


def ended_badly(job: str, ended: str, text: str) -> InputError:
    """How a Job ended, with the end of its log."""
    last = "\n".join(text.splitlines()[-LAST_LINES:])
    return InputError(f"the Job {job} ended: {ended}; the end of its log:\n{last}")


def _ended(job: Mapping[str, Any]) -> str | None:
    """``COMPLETE``, or why it failed; None of a Job that runs."""
    for one in (job.get("status") or {}).get("conditions") or []:
        if one["status"] == "True" and one["type"] == COMPLETE:
            return COMPLETE
        if one["status"] == "True" and one["type"] == "Failed":
            return f"{one.get('reason', 'Failed')}: {one.get('message', '')}"
    return None


def _waits(pod: Mapping[str, Any]) -> str:
    """Why a pod does not run; empty where it does."""
    status = pod.get("status") or {}
    for one in status.get("conditions") or []:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return str(one.get("message") or one.get("reason") or "")
    for one in status.get("containerStatuses") or []:
        waiting = (one.get("state") or {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    return ""
