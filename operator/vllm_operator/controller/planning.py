"""From a specification to a pinned plan, or to the reasons why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vllm_operator.api.conditions import truncate
from vllm_operator.api.plan import Plan, Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import (
    LeaderWorkerSetMissing,
    NameConflict,
    PlanningError,
    PredecessorRemains,
    TemporaryFailure,
)
from vllm_operator.lifecycle.learned import taken_over
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import (
    RELEASE,
    Pinned,
    Relation,
    controller_revision,
    relation,
    replan_request,
)
from vllm_operator.manifests.render import render, template_of
from vllm_operator.manifests.selection import gpu_selection
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.memory.calibration import Calibration
from vllm_operator.sizing.plan.difference import plan_difference
from vllm_operator.sizing.plan.planner import make_plan

from .apply import Applier
from .inputs import LARGEST_GROUP, InputSource, Standing

INSTALL_GROUPS: Final = "https://lws.sigs.k8s.io/docs/installation"
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
    release: str = RELEASE
    """The release that made the plan: an earlier one's, where the plan was kept."""
    repair: str = ""
    """What was repaired, where the plan is the one in force with a repair."""

    def revision(self, server: VLLMServer, number: int) -> dict[str, Any]:
        """The ControllerRevision that pins it."""
        assert self.plan is not None
        assert self.inputs is not None
        return controller_revision(
            server, number, self.inputs, self.plan, self.objects, self.release
        )


def problem_of(error: PlanningError) -> Problem:
    """A planning error as it stands in ``status.problems``."""
    message = truncate(error.message)
    return Problem(field=error.field[:200], reason=error.reason, message=message)


Calibrations = Callable[[str], tuple[Calibration, ...]]
"""What running engines have measured, by model."""


class Planner:
    """Plans servers from live inputs and compares pinned plans with what a new one would be."""

    def __init__(
        self, inputs: InputSource, applier: Applier, calibrations: Calibrations = lambda _: ()
    ) -> None:
        self._inputs = inputs
        self._calibrations = calibrations
        self._applier = applier
        self._updates: dict[Key, tuple[str, str | None]] = {}

    async def propose(
        self, server: VLLMServer, in_force: Pinned | None, remembered: Remembered
    ) -> Proposal:
        """A plan for the specification as it stands.

        A change that only the pod template reads keeps plan and inputs. What is remembered of the
        last plan counts where the pinned one was deleted. An edit of a running server is shown to
        the API server first (dry run): a pod template that it refuses must not replace one that
        works. Raises ApiError and TemporaryFailure where the API server fails; an input's outage is
        in the proposal.
        """
        release = RELEASE
        learned = taken_over(server, in_force)
        try:
            if in_force is not None and in_force.plan is not None and _keeps_plan(server, in_force):
                release = in_force.release
                inputs, plan = PlanningInputs.from_json_object(in_force.inputs), in_force.plan
                if inputs.repairs != learned.repairs:
                    inputs = replace(inputs, repairs=learned.repairs)
                    plan = make_plan(server, inputs)
            else:
                standing = _standing(server, in_force, remembered)
                inputs = await self._inputs.resolve(server, standing)
                known = self._calibrations(server.spec.model.id)
                inputs = replace(inputs, calibrations=known, repairs=learned.repairs)
                plan = make_plan(server, inputs)
            if not plan.feasible and inputs.max_nodes == 1:
                ensure_groups(server, inputs, plan)
            if not plan.feasible:
                return _refused(plan.problems, inputs)
            objects = render(server, plan, gpu_selection(server, plan, inputs))
        except TemporaryFailure as failure:
            message = f"{failure.message}; asked again every {ASK_AGAIN_SECONDS:.0f} s"
            problem = _problem("SourceUnavailable", message, failure.field or "spec")
            return Proposal(problems=(problem,), waits=True, ask_again=ASK_AGAIN_SECONDS)
        except PlanningError as error:
            return Proposal(problems=(problem_of(error),))
        try:
            absent = await self._ensure_names(server, [one["kind"] for one in objects])
        except NameConflict as conflict:
            return conflicted(conflict)
        if in_force is not None:
            key = (server.metadata.namespace, server.metadata.name)
            for rendered in objects:
                refusal = await self._applier.refusal(rendered, key)
                if refusal is not None:
                    return refused_by_server(refusal)
        return Proposal(
            plan=plan,
            inputs=inputs.to_json_object(),
            objects=objects,
            absent=absent,
            release=release,
        )

    async def repaired(self, server: VLLMServer, in_force: Pinned, repair: Repair) -> Proposal:
        """The plan in force with one more repair, from the inputs that are pinned with it.

        Problems where no layout is left, and nothing where the repair changes no argument.
        """
        inputs = PlanningInputs.from_json_object(in_force.inputs)
        assert in_force.plan is not None
        assert in_force.plan.placement is not None
        inputs = replace(
            inputs,
            repairs=(*inputs.repairs, repair),
            preferred_product=in_force.plan.placement.gpu,
        )
        plan = make_plan(server, inputs)
        if not plan.feasible:
            return Proposal(problems=tuple(plan.problems))
        if plan.engine == in_force.plan.engine:
            return Proposal()
        objects = render(server, plan, gpu_selection(server, plan, inputs))
        return Proposal(
            plan=plan, inputs=inputs.to_json_object(), objects=objects, repair=repair.reason
        )

    async def update(self, server: VLLMServer, in_force: Pinned, *, live: bool) -> str | None:
        """What a new plan would change, or None. ``live`` re-reads a referenced ConfigMap."""
        key = (server.metadata.namespace, server.metadata.name)
        if in_force.plan is None:
            return None
        pinned = PlanningInputs.from_json_object(in_force.inputs)
        try:
            now = await self._inputs.compare(server, pinned, live=live)
            measured = self._calibrations(server.spec.model.id)
            now = replace(now, repairs=pinned.repairs, calibrations=measured)
        except TemporaryFailure:
            return self._updates.get(key, ("", None))[1]
        mark = f"{in_force.uid}/{now.fingerprint()}"
        known = self._updates.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        message = self._difference(server, in_force, pinned, now)
        self._updates[key] = (mark, message)
        return message

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone."""
        self._updates.pop(key, None)
        self._inputs.forget(key)

    def _difference(
        self, server: VLLMServer, in_force: Pinned, pinned: PlanningInputs, now: PlanningInputs
    ) -> str | None:
        if in_force.release == RELEASE and now.fingerprint() == pinned.fingerprint():
            return None
        assert in_force.plan is not None
        plan = make_plan(server, now)
        if _is_a_tie(plan, in_force.plan):
            # As good on another product, of which there are more nodes today: no reason to move.
            assert in_force.plan.placement is not None
            plan = make_plan(server, replace(now, preferred_product=in_force.plan.placement.gpu))
        as_before = replace(now, calibrations=pinned.calibrations)
        same = plan.engine == in_force.plan.engine and plan.feasible
        # With the same inputs what differs is only known better, and nothing would run otherwise.
        if not same or as_before.fingerprint() != pinned.fingerprint():
            difference = plan_difference(in_force.plan, plan)
            if difference is not None or not plan.feasible:
                return difference
        fresh = render(server, plan, gpu_selection(server, plan, now))
        if template_of(fresh) != in_force.template:
            return f"release {RELEASE} renders the pod template otherwise"
        return None

    async def _ensure_names(self, server: VLLMServer, kinds: Sequence[str]) -> frozenset[str]:
        """The kinds of children that do not exist. Raises NameConflict for somebody else's."""
        key = (server.metadata.namespace, server.metadata.name)
        uid = server.metadata.uid
        found = await asyncio.gather(
            *(self._applier.ensure_ours(kind, key, key[1], uid) for kind in kinds)
        )
        records = zip(kinds, found, strict=True)
        return frozenset(kind for kind, record in records if record is None)


def ensure_groups(server: VLLMServer, inputs: PlanningInputs, refused: Plan) -> None:
    """Raise LeaderWorkerSetMissing where that is all that a plan lacks."""
    plan = make_plan(server, replace(inputs, max_nodes=LARGEST_GROUP))
    if not plan.feasible or plan.placement is None:
        return
    nodes, gpu = plan.placement.nodes, plan.placement.gpu
    first = f"; on one node: {refused.problems[0].message}" if refused.problems else ""
    each = plan.placement.gpus_per_replica // nodes
    raise LeaderWorkerSetMissing(
        "spec.gpu",
        f"a replica takes {nodes} nodes of {each} {gpu}, and this cluster has no LeaderWorkerSets; "
        f"install them ({INSTALL_GROUPS}), and the operator plans this server at its next resync"
        f"{first}",
    )


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


def _is_a_tie(new: Plan, old: Plan) -> bool:
    if new.placement is None or old.placement is None:
        return False
    if new.capacity is None or old.capacity is None or new.placement.gpu == old.placement.gpu:
        return False
    same_size = new.placement.gpus_per_replica == old.placement.gpus_per_replica
    return same_size and new.capacity.max_model_len == old.capacity.max_model_len


def refused_by_server(message: str) -> Proposal:
    """What a visit comes to where the API server, a quota or a webhook refuses an object."""
    return Proposal(problems=(_problem("ObjectRefused", message),), ask_again=ASK_AGAIN_SECONDS)


def unexpected(error: Exception) -> Proposal:
    """What a visit comes to where planning itself is broken: said, and nothing else stops."""
    message = (
        f"planning failed unexpectedly ({type(error).__name__}: {error}); this is a defect of the "
        "operator, whose log has the details. What runs goes on"
    )
    return Proposal(problems=(_problem("OperatorDefect", message),), ask_again=ASK_AGAIN_SECONDS)


def _problem(reason: str, message: str, field: str = "spec") -> Problem:
    return Problem(field=field[:200], reason=reason, message=truncate(message))


def _keeps_plan(server: VLLMServer, in_force: Pinned) -> bool:
    return relation(in_force, server) is Relation.OTHER_POD


def _standing(
    server: VLLMServer, in_force: Pinned | None, remembered: Remembered
) -> Standing | None:
    """What stays as it is, unless a new plan was asked for outright."""
    if in_force is None:
        own = server.spec.engine is not None and server.spec.engine.image is not None
        return Standing(remembered.product, image=None if own else remembered.image)
    if in_force.replan != replan_request(server) or in_force.plan is None:
        return None
    inputs = PlanningInputs.from_json_object(in_force.inputs)
    placement = in_force.plan.placement
    assert placement is not None
    facts = inputs.model
    known_to_hub_only = facts is not None and facts.source == "hub"
    unchanged = in_force.spec.model == server.spec.model
    return Standing(
        product=placement.gpu,
        offer=next((o for o in inputs.offers if o.product == placement.gpu), None),
        image=inputs.default_image,
        facts=facts if known_to_hub_only and unchanged else None,
    )


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
