"""Applies the objects of a plan in force, and takes away those that it no longer has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.errors import ApiError, Stale
from vllm_operator.lifecycle.kinds import BUDGETS, BY_KIND, SERVERS, Resource
from vllm_operator.lifecycle.notes import Note
from vllm_operator.lifecycle.records import ChildRecord, Key
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.lifecycle.rollout import Strategy, choose_strategy, may_retire
from vllm_operator.lifecycle.trial import Shape, forbids
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.render import WORKLOADS, live_objects, with_live_fields

from .apply import Applier, controlled_by, differs, is_refusal, with_applied_hash
from .client import Client
from .metrics import Metrics
from .planning import Proposal
from .store import Store


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying came to."""

    repaired: list[str]
    """Kinds that somebody else had changed."""
    look_again: float | None
    refusal: str | None
    """Why the API server refused an object, if it did."""
    complete: bool = True
    """Whether every object stands."""
    scaled: tuple[int, int] | None = None
    """The workload's replicas before and after, where the server's own were changed."""


class Children:
    """The objects of servers: each is written if and only if it is not what it should be."""

    def __init__(
        self,
        client: Client,
        store: Store,
        applier: Applier,
        metrics: Metrics,
        clock: Callable[[], datetime],
        others_wait: Callable[[], bool],
    ) -> None:
        self._client = client
        self._store = store
        self._applier = applier
        self._metrics = metrics
        self._clock = clock
        self._others_wait = others_wait

    async def apply(
        self,
        key: Key,
        server: VLLMServer,
        in_force: Pinned,
        proposal: Proposal | None,
        shape: Shape | None = None,
        volume_holder: str = "",
    ) -> Applied:
        """Apply what differs of the plan in force; ``proposal`` is what this visit pinned, if so.

        ``shape`` is what the Deployment is while a trial is held or ended. The budget for one pod
        more comes before that pod, and goes after it. ``volume_holder``: who has the volume that a
        pod waits for.

        While other servers wait, a visit that creates an object ends there, and the next one goes
        on behind them: of a thousand new servers each gets its Deployment before one its Service.
        Raises ApiError, Stale, and NameConflict where a name is somebody else's.
        """
        repaired: list[str] = []
        look_again, refusal, scaled = None, None, None
        objects = (*in_force.objects, *live_objects(server))
        if shape is not None:
            server = with_replicas(server, shape.replicas)
            objects = (*live_objects(server, shape.least), shape.workload, *in_force.objects[1:])
        for number, rendered in enumerate(objects):
            kind = rendered["kind"]
            live = None
            if proposal is None or kind not in proposal.absent:
                live = await self._applier.ensure_ours(kind, key, key[1], server.metadata.uid)
            if live is not None and live.deleting:
                continue
            rolling_update: Mapping[str, int] = {}
            marks: Mapping[str, str] = {}
            least = shape.least if shape is not None else None
            if kind in WORKLOADS and shape is not None:
                rolling_update, marks = shape.rolling_update, shape.marks
            elif kind in WORKLOADS:
                strategy = self._strategy(key, server, in_force, live, volume_holder)
                rolling_update, look_again = strategy.rolling_update, strategy.look_again
                marks = strategy.marks
            of_the_moment = (*rolling_update.items(), *marks.items())
            mark_key: Hashable = (in_force.uid, kind, server.spec.replicas, *of_the_moment, least)
            build = partial(_desired, rendered, server.spec, rolling_update, marks)
            if kind in WORKLOADS and shape is not None:
                template = rendered["metadata"]["annotations"][names.TEMPLATE_HASH]
                mark_key = (mark_key, template, shape.holds)
                build = partial(_shaped, shape, server)
            if not differs(self._applier.mark(mark_key, build), live):
                continue
            if live is None and kind in WORKLOADS and proposal is None:
                # A missing workload may mean that the server itself is gone, unseen.
                await self.ensure_alive(key, server)
            try:
                applied = await self._applier.apply(build(), live, key, mark_key)
            except ApiError as error:
                if is_refusal(error):
                    refusal = f"the API server refuses {kind} {key[1]}: {error.message}"
                    continue
                if error.code != 409:
                    raise
                await self._read_again(BY_KIND[kind], key, server.metadata.uid)
                raise Stale(f"{kind} {key[1]} has changed since it was read") from error
            self._metrics.writes.labels(kind).inc()
            more = number + 1 < len(objects)
            if live is None and more and self._others_wait():
                return Applied(repaired, look_again, refusal, complete=False)
            if live is not None and live.applied_hash == applied.applied_hash:
                repaired.append(kind)
            elif live is not None and kind in WORKLOADS:
                before, after = live.spec_replicas, server.spec.replicas
                # From none to some with another plan is the end of a stop.
                changed = before != after and (proposal is None or before)
                scaled = (before, after) if changed else None
        if BUDGETS.kind not in {rendered["kind"] for rendered in objects}:
            await self._remove(BUDGETS.kind, key, server)
        wait = await self._retire(key, server, in_force)
        look_again = wait if look_again is None else look_again
        return Applied(repaired, look_again, refusal, scaled=scaled)

    def _strategy(
        self,
        key: Key,
        server: VLLMServer,
        in_force: Pinned,
        live: ChildRecord | None,
        volume_holder: str,
    ) -> Strategy:
        return choose_strategy(
            server.spec,
            live,
            self._store.pods(key),
            self._clock(),
            template=in_force.template,
            planned_at=in_force.created_at,
            may_surge=in_force.may_surge,
            surges_only=bool(in_force.tuning) and forbids(server),
            dead_first="instead" in in_force.tuning,
            volume_holder=volume_holder,
        )

    async def ensure_alive(self, key: Key, server: VLLMServer) -> None:
        """Read the server live. Raises Stale where it is gone, or another one by now."""
        body = await self._read_again(SERVERS, key)
        if body is None or body["metadata"]["uid"] != server.metadata.uid:
            raise Stale(f"VLLMServer {key[1]} is gone")

    async def _retire(self, key: Key, server: VLLMServer, in_force: Pinned) -> float | None:
        """Take away the workload of the other kind once the one in force can do without it.

        Seconds after which to look again, if time alone may decide.
        """
        other = next(kind for kind in WORKLOADS if kind != in_force.workload)
        old = self._store.child(other, key, key[1])
        if old is None:
            return None
        verdict = may_retire(
            server.spec,
            self._store.child(in_force.workload, key, key[1]),
            self._store.pods(key),
            self._clock(),
            template=in_force.template,
            planned_at=in_force.created_at,
            may_surge=in_force.may_surge,
        )
        if verdict.now:
            await self._remove(other, key, server)
        return verdict.look_again

    async def _remove(self, kind: str, key: Key, server: VLLMServer) -> None:
        """Delete a child that the plan no longer has, where it is known and ours."""
        live = self._store.child(kind, key, key[1])
        if live is None or live.deleting or live.controller_uid != server.metadata.uid:
            return
        try:
            await self._client.delete(BY_KIND[kind], key[0], key[1], uid=live.uid)
        except ApiError as error:
            if error.code != 409:
                raise
        else:
            self._metrics.writes.labels(kind).inc()
        self._store.forget_child(kind, key, key[1])

    async def _read_again(
        self, resource: Resource, key: Key, owner: str = ""
    ) -> dict[str, Any] | None:
        """Read an object live; what another than ``owner`` controls is not kept as ours."""
        body = await self._client.get(resource, key[0], key[1])
        if body is None:
            self._store.forget_child(resource.kind, key, key[1])
        elif not owner or controlled_by(body, owner):
            self._store.observe(resource.kind, body)
        return body


def with_replicas(server: VLLMServer, replicas: int) -> VLLMServer:
    """The server as its objects are to be with so many pods, whatever it asks for."""
    spec = server.spec.model_copy(update={"replicas": replicas})
    return server.model_copy(update={"spec": spec})


def repair_note(kind: str, name: str) -> Note:
    """The event of an object that somebody else had changed."""
    note = f"{kind} {name} was changed by somebody else and is restored"
    return ("Normal", "Repaired", "Repair", note)


def _shaped(shape: Shape, server: VLLMServer) -> dict[str, Any]:
    return with_applied_hash(shape.of_the_moment(server))


def _desired(
    rendered: Mapping[str, Any],
    spec: VLLMServerSpec,
    rolling_update: Mapping[str, int],
    marks: Mapping[str, str],
) -> dict[str, Any]:
    return with_applied_hash(with_live_fields(rendered, spec, rolling_update, marks))
