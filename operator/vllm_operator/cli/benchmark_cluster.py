"""What a benchmark asks of the cluster, under the rights of whoever calls it. Edge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark import kept
from vllm_operator.benchmark.jobs import CONTAINER
from vllm_operator.benchmark.results import Progress, Result, read_log
from vllm_operator.benchmark.steady import unsteady
from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.lifecycle.kinds import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    LEADER_WORKER_SETS,
    PODS,
    SERVERS,
    Resource,
)
from vllm_operator.lifecycle.remembered import read_server

from .cluster import answer

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
RIGHTS: Final = (
    "get of vllmservers, deployments.apps and leaderworkersets.leaderworkerset.x-k8s.io; create, "
    "get and delete of jobs.batch; list of pods and get of pods/log; get, list, create and patch "
    "of configmaps"
)

NEEDS: Final = f"A benchmark needs {RIGHTS}: docs/measuring.md has the Role"

Object = dict[str, Any]
T = TypeVar("T")
C = TypeVar("C")
LogWatcher = Callable[[str, str], None]
"""Told the whole lines of a Job's log so far, and of a pod that does not run why."""
Watcher = Callable[[Progress, str], None]
"""Told what they say in its place."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server as it is, with the plan in force and its pods' template."""

    server: VLLMServer
    plan: Plan
    template: Mapping[str, Any]
    unsteady: str | None
    """Why it is not to be measured now."""


class Cluster:
    """A cluster that KUBECONFIG names."""

    def __init__(self, client: Any, namespace: str, needs: str = NEEDS) -> None:
        self._client = client
        self._namespace = namespace
        self._needs = needs

    async def served(self, name: str) -> Served:
        """A server. Raises ``InputError`` where there is none, or it has no plan yet."""
        server, plan, status = await self._server(name)
        kind = DEPLOYMENTS if plan.placement.nodes == 1 else LEADER_WORKER_SETS
        workload = await self._get(kind, name)
        if workload is None:
            raise InputError(f"{self._namespace}/{name} has no {kind.kind} yet")
        spec = workload["spec"]
        template = spec.get("template") or spec["leaderWorkerTemplate"]["leaderTemplate"]
        return Served(server, plan, template, unsteady(status, server.spec.replicas))

    async def plan(self, name: str) -> Plan:
        """The plan in force of a server."""
        return (await self._server(name))[1]

    async def _server(self, name: str) -> tuple[VLLMServer, Plan, Object]:
        body = await self._get(SERVERS, name)
        where = f"{self._namespace}/{name}"
        if body is None:
            raise InputError(f"there is no server {where}; -n names another namespace")
        server, problems = read_server(body)
        status = body.get("status") or {}
        if problems:
            raise InputError(f"{where}: {problems[0].field}: {problems[0].message}")
        if not status.get("plan"):
            raise InputError(f"{where} has no plan yet; its conditions say why")
        try:
            plan = Plan.model_validate(status["plan"])
        except ValueError as problem:
            raise InputError(
                f"{where} has a plan of another release: {problem!s:.200}"
            ) from problem
        return server, plan, status

    async def create(self, job: Object) -> None:
        """Make the Job."""
        await self._asked(self._client.create(JOBS, self._namespace, job), "create", JOBS)

    async def delete(self, job: str) -> None:
        """Delete a Job, and its pod with it: the API server's default would leave that."""
        await self._asked(
            self._client.delete(JOBS, self._namespace, job, background=True), "delete", JOBS
        )

    async def finished(self, job: str, watcher: Watcher) -> Result:
        """The result, once the Job has ended. Raises ``InputError`` where it failed."""
        text = await self.ended(job, lambda log, waits: watcher(read_log(log), waits))
        progress = read_log(text)
        if progress.done and progress.result is not None:
            return progress.result
        raise _ended_badly(job, COMPLETE, text)

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
                    raise _ended_badly(job, ended, text)
                watcher(text[: text.rfind("\n") + 1], waits)
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, job: str) -> tuple[str | None, str, str]:
        """How the Job ended, what its log says, and why its pod waits. Raises TemporaryFailure."""
        found = await self._get(JOBS, job)
        if found is None:
            raise InputError(f"the Job {job} was deleted before it had a result")
        pod = await self._pod(job)
        if pod is None:
            return _ended(found), "", ""
        return _ended(found), await self._log(pod), _waits(pod)

    async def keep(self, uid: str, result: Result) -> None:
        """Put a result beside the others of its server; the oldest go."""
        name = kept.config_map_name(result.server)
        found = await self._get(CONFIG_MAPS, name)
        if found is None:
            body = kept.config_map(result.server, self._namespace, uid)
            body["data"] = kept.changes({}, result)
            made = self._client.create(CONFIG_MAPS, self._namespace, body)
            await self._asked(made, "create", CONFIG_MAPS)
            return
        if (found["metadata"].get("labels") or {}).get(kept.RESULTS_LABEL) != result.server:
            raise InputError(
                f"the ConfigMap {name} is somebody else's; the result is not kept, --output json "
                "prints it"
            )
        changed = {"data": kept.changes(found.get("data") or {}, result)}
        merged = self._client.merge(CONFIG_MAPS, self._namespace, name, changed)
        await self._asked(merged, "patch", CONFIG_MAPS)

    async def results(self, server: str | None = None) -> list[Result]:
        """Results of a server, or of all of the namespace, the newest first."""
        if server is not None:
            found = await self._get(CONFIG_MAPS, kept.config_map_name(server))
            return [] if found is None else kept.read(found.get("data") or {})

        async def listed() -> list[Object]:
            pages = self._client.pages(CONFIG_MAPS, self._namespace, kept.RESULTS_LABEL)
            return [one async for page in pages for one in page]

        maps = await self._asked(listed(), "list", CONFIG_MAPS)
        found_all = [one for each in maps for one in kept.read(each.get("data") or {})]
        return sorted(found_all, key=lambda one: one.name, reverse=True)

    async def _pod(self, job: str) -> Object | None:
        async def listed() -> list[Object]:
            pages = self._client.pages(PODS, self._namespace, f"{OF_JOB}={job}")
            return [one async for page in pages for one in page]

        pods: list[Object] = await self._asked(listed(), "list", PODS)
        return max(pods, key=lambda one: one["metadata"]["creationTimestamp"], default=None)

    async def _log(self, pod: Object) -> str:
        try:
            text: str = await self._client.log(
                self._namespace,
                pod["metadata"]["name"],
                CONTAINER,
                previous=False,
                lines=LOG_LINES,
                limit=LOG_BYTES,
                seconds=LOG_SECONDS,
            )
        except ApiError as error:
            if error.code == 403:
                raise self._refused(error, "get", "pods/log") from error
            return ""  # a container that has not started has none
        return text

    async def _get(self, resource: Resource, name: str) -> Object | None:
        got = self._client.get(resource, self._namespace, name)
        found: Object | None = await self._asked(got, "get", resource)
        return found

    async def _asked(self, request: Awaitable[Any], verb: str, resource: Resource) -> Any:
        try:
            return await request
        except ApiError as error:
            if error.code == 403:
                raise self._refused(error, verb, resource.plural) from error
            raise

    def _refused(self, error: ApiError, verb: str, what: str) -> InputError:
        return InputError(
            f"you may not {verb} {what} in namespace {self._namespace} ({error.message}). "
            f"{self._needs}"
        )


def _ended_badly(job: str, ended: str, text: str) -> InputError:
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


def asked(namespace: str, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """The answer to a question of the cluster. Raises ``InputError`` with what can be done."""
    return answer(lambda client: Cluster(client, namespace), question)
