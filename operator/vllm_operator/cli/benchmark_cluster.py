"""What a benchmark asks of the cluster, under the rights of whoever calls it. Edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark import kept
from vllm_operator.benchmark.results import Progress, Result, read_log
from vllm_operator.benchmark.steady import unsteady
from vllm_operator.errors import InputError
from vllm_operator.lifecycle.kinds import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEADER_WORKER_SETS,
)
from vllm_operator.lifecycle.remembered import read_server

from .cluster import answer
from .jobs import COMPLETE, Jobs, ended_badly

RIGHTS: Final = (
    "get of vllmservers, deployments.apps and leaderworkersets.leaderworkerset.x-k8s.io; create, "
    "get and delete of jobs.batch; list of pods and get of pods/log; get, list, create and patch "
    "of configmaps"
)

NEEDS: Final = f"A benchmark needs {RIGHTS}: docs/measuring.md has the Role"

Object = dict[str, Any]
T = TypeVar("T")
C = TypeVar("C")
Watcher = Callable[[Progress, str], None]
"""Told what a Job's log says, and of a pod that does not run why."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server as it is, with the plan in force and its pods' template."""

    server: VLLMServer
    plan: Plan
    template: Mapping[str, Any]
    unsteady: str | None
    """Why it is not to be measured now."""


class Cluster(Jobs):
    """A cluster whose servers are measured."""

    def __init__(self, client: Any, namespace: str) -> None:
        super().__init__(client, namespace, NEEDS)

    async def served(self, name: str) -> Served:
        """A server. Raises ``InputError`` where there is none, or it has no plan yet."""
        server, plan, status = await self._server(name)
        kind = DEPLOYMENTS if plan.placement.nodes == 1 else LEADER_WORKER_SETS
        workload = await self.get(kind, self.namespace, name)
        if workload is None:
            raise InputError(f"{self.namespace}/{name} has no {kind.kind} yet")
        spec = workload["spec"]
        template = spec.get("template") or spec["leaderWorkerTemplate"]["leaderTemplate"]
        return Served(server, plan, template, unsteady(status, server.spec.replicas))

    async def plan(self, name: str) -> Plan:
        """The plan in force of a server."""
        return (await self._server(name))[1]

    async def _server(self, name: str) -> tuple[VLLMServer, Plan, Object]:
        where = f"{self.namespace}/{name}"
        body = await self.server(self.namespace, name)
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

    async def finished(self, job: str, watcher: Watcher) -> Result:
        """The result, once the Job has ended. Raises ``InputError`` where it failed."""
        text = await self.ended(job, lambda log, waits: watcher(read_log(log), waits))
        progress = read_log(text)
        if progress.done and progress.result is not None:
            return progress.result
        raise ended_badly(job, COMPLETE, text)

    async def keep(self, uid: str, result: Result) -> None:
        """Put a result beside the others of its server; the oldest go."""
        name = kept.config_map_name(result.server)
        found = await self.get(CONFIG_MAPS, self.namespace, name)
        if found is None:
            body = kept.config_map(result.server, self.namespace, uid)
            body["data"] = kept.changes({}, result)
            await self.create(CONFIG_MAPS, body)
            return
        if (found["metadata"].get("labels") or {}).get(kept.RESULTS_LABEL) != result.server:
            raise InputError(
                f"the ConfigMap {name} is somebody else's; the result is not kept, --output json "
                "prints it"
            )
        changed = {"data": kept.changes(found.get("data") or {}, result)}
        await self.merge(CONFIG_MAPS, name, changed)

    async def results(self, server: str | None = None) -> list[Result]:
        """Results of a server, or of all of the namespace, the newest first."""
        if server is not None:
            found = await self.get(CONFIG_MAPS, self.namespace, kept.config_map_name(server))
            return [] if found is None else kept.read(found.get("data") or {})

        maps = await self.listed(CONFIG_MAPS, self.namespace, kept.RESULTS_LABEL)
        found_all = [one for each in maps for one in kept.read(each.get("data") or {})]
        return sorted(found_all, key=lambda one: one.name, reverse=True)


def asked(namespace: str, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """The answer to a question of the cluster. Raises ``InputError`` with what can be done."""
    return answer(lambda client: Cluster(client, namespace), question)
