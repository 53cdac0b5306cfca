"""From a specification to a pinned plan, or to the reasons why there is none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.plan import Plan, Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import (
    NameConflict,
    PlanningError,
    PredecessorRemains,
    TemporaryFailure,
)
from vllm_operator.manifests.render import render, template_hash
from vllm_operator.manifests.selection import gpu_selection
from vllm_operator.sizing.planner import PlanningInputs, make_plan, plan_difference

from .apply import Applier
from .inputs import InputSource
from .revisions import RELEASE, Pinned, plan_hash, replan_request
from .store import Key

CHILD_KINDS: Final = ("Deployment", "Service")

PREDECESSOR_SECONDS: Final = 1.0
ASK_AGAIN_SECONDS: Final = 30.0
"""How often to look for what no watch delivers: a foreign object, a ConfigMap to come."""


@dataclass(frozen=True)
class Proposal:
    """What planning came to: objects to pin, or problems."""

    plan: Plan | None = None
    inputs: dict[str, Any] | None = None
    objects: tuple[dict[str, Any], ...] = ()
    absent: frozenset[str] = frozenset()
    """Kinds of children that do not exist yet."""
    problems: tuple[Problem, ...] = ()
    waits: bool = False
    ask_again: float | None = None
    failure: TemporaryFailure | None = None


def problem_of(error: PlanningError) -> Problem:
    """A planning error as it stands in ``status.problems``."""
    return Problem(field=error.field, reason=error.reason, message=error.message)


class Planner:
    """Plans servers from live inputs and compares pinned plans with what a new one would be."""

    def __init__(self, inputs: InputSource, applier: Applier) -> None:
        self._inputs = inputs
        self._applier = applier
        self._updates: dict[Key, tuple[str, str | None]] = {}

    async def propose(self, server: VLLMServer, in_force: Pinned | None) -> Proposal:
        """A plan for the specification as it stands.

        A change that only the pod template reads keeps plan and inputs. Raises ApiError and
        TemporaryFailure only from the ownership check; an input's outage is in the proposal.
        """
        keep = (
            in_force is not None
            and in_force.plan_hash == plan_hash(server.spec)
            and in_force.replan == replan_request(server)
        )
        try:
            if keep and in_force is not None:
                inputs = PlanningInputs.from_json_object(in_force.inputs)
                plan = in_force.plan
            else:
                inputs = await self._inputs.resolve(server, *_in_force(server, in_force))
                plan = make_plan(server, inputs)
            if not plan.feasible:
                return _refused(plan.problems, inputs)
            objects = render(server, plan, gpu_selection(server, plan, inputs))
        except TemporaryFailure as failure:
            problem = Problem(field="spec.model.id", reason="UnknownModel", message=str(failure))
            return Proposal(problems=(problem,), waits=True, failure=failure)
        except PlanningError as error:
            return Proposal(problems=(problem_of(error),))
        try:
            absent = await self._ensure_names(server)
        except NameConflict as conflict:
            return conflicted(conflict)
        return Proposal(plan=plan, inputs=inputs.to_json_object(), objects=objects, absent=absent)

    async def update(self, server: VLLMServer, in_force: Pinned, *, live: bool) -> str | None:
        """What a new plan would change, or None. ``live`` re-reads a referenced ConfigMap."""
        key = (server.metadata.namespace, server.metadata.name)
        pinned = PlanningInputs.from_json_object(in_force.inputs)
        try:
            now = await self._inputs.compare(server, pinned, live=live)
        except TemporaryFailure:
            return self._updates.get(key, ("", None))[1]
        mark = f"{in_force.name}/{now.fingerprint()}"
        known = self._updates.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        message = self._difference(server, in_force, pinned, now)
        self._updates[key] = (mark, message)
        return message

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone."""
        self._updates.pop(key, None)

    def _difference(
        self, server: VLLMServer, in_force: Pinned, pinned: PlanningInputs, now: PlanningInputs
    ) -> str | None:
        if in_force.release == RELEASE and now.fingerprint() == pinned.fingerprint():
            return None
        plan = make_plan(server, now)
        difference = plan_difference(in_force.plan, plan)
        if difference is not None or not plan.feasible:
            return difference
        fresh = render(server, plan, gpu_selection(server, plan, now))
        if template_hash(fresh[0]) != template_hash(in_force.objects[0]):
            return f"release {RELEASE} renders the pod template otherwise"
        return None

    async def _ensure_names(self, server: VLLMServer) -> frozenset[str]:
        """The kinds of children that do not exist. Raises NameConflict for somebody else's."""
        key = (server.metadata.namespace, server.metadata.name)
        uid = server.metadata.uid
        found = await asyncio.gather(
            *(self._applier.ensure_ours(kind, key, key[1], uid) for kind in CHILD_KINDS)
        )
        records = zip(CHILD_KINDS, found, strict=True)
        return frozenset(kind for kind, record in records if record is None)


def conflicted(conflict: NameConflict) -> Proposal:
    """What a visit comes to where a name is taken."""
    waits = isinstance(conflict, PredecessorRemains)
    remedy = (
        "it belongs to a deleted server of this name and is about to be collected"
        if waits
        else "it stays untouched: rename this server, or delete that object"
    )
    problem = Problem(field="metadata.name", reason="NameConflict", message=f"{conflict}; {remedy}")
    again = PREDECESSOR_SECONDS if waits else ASK_AGAIN_SECONDS
    return Proposal(problems=(problem,), waits=waits, ask_again=again)


def _in_force(server: VLLMServer, in_force: Pinned | None) -> tuple[str | None, str | None]:
    """The product and the default image that stay, unless a new plan was asked for outright."""
    if in_force is None or in_force.replan != replan_request(server):
        return None, None
    placement = in_force.plan.placement
    return placement.gpu if placement else None, in_force.inputs["defaultImage"]


def _refused(problems: list[Problem], inputs: PlanningInputs) -> Proposal:
    reasons = {problem.reason for problem in problems}
    fields = [problem.field for problem in problems]
    awaits_nodes = reasons == {"UnknownGPU"} and inputs.nodes_visible and not inputs.offers
    awaits_facts = all(field.startswith("spec.model.configMapRef") for field in fields)
    return Proposal(
        problems=tuple(problems),
        waits=awaits_nodes or awaits_facts,
        ask_again=ASK_AGAIN_SECONDS if awaits_facts else None,
    )
