"""From a specification to a pinned plan, or to the reasons why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark.kept import read as read_results
from vllm_operator.benchmark.learned import speeds_of
from vllm_operator.errors import LeaderWorkerSetMissing, NameConflict, TemporaryFailure
from vllm_operator.hardware.measured import among
from vllm_operator.lifecycle.kinds import DEPLOYMENTS
from vllm_operator.lifecycle.learned import same_kind, taken_over
from vllm_operator.lifecycle.objections import (
    Objection,
    conflicted,
    no_trial,
    refused_by_server,
    unavailable,
    unplannable,
)
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import (
    RELEASE,
    Pinned,
    Relation,
    controller_revision,
    relation,
)
from vllm_operator.lifecycle.standing import standing_of
from vllm_operator.lifecycle.trials import Candidate, Trial, instead_of, unlike
from vllm_operator.manifests.planned import Planned, planned, rendered
from vllm_operator.manifests.render import template_of
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.asked.workload_profiles import profile_of
from vllm_operator.sizing.memory.calibration import Calibration
from vllm_operator.sizing.plan.difference import is_a_tie, is_cheaper, plan_difference
from vllm_operator.sizing.plan.planner import unplanned

from .apply import Applier
from .inputs import LARGEST_GROUP, InputSource
from .measured import Measurements

INSTALL_GROUPS: Final = "https://lws.sigs.k8s.io/docs/installation"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to put in force, with its objects."""

    planned: Planned
    inputs: PlanningInputs
    absent: frozenset[str] = frozenset()
    """Kinds of children that do not exist yet."""
    release: str = RELEASE
    """The release that made the plan: an earlier one's, where the plan was kept."""
    repair: str = ""
    """What was repaired, where the plan is the one in force with a repair."""
    tuning: Mapping[str, str] = field(default_factory=dict)
    """Where it takes the place of a trial's plan."""

    def revision(self, server: VLLMServer, number: int) -> dict[str, Any]:
        """The ControllerRevision that pins it."""
        inputs = self.inputs.to_json_object()
        body = controller_revision(server, number, inputs, self.planned, self.release)
        return body | {"data": {**body["data"], "tuning": self.tuning}} if self.tuning else body


Calibrations = Callable[[str], tuple[Calibration, ...]]
"""What running engines have measured, by model."""


class Planner:
    """Plans servers from live inputs and compares pinned plans with what a new one would be."""

    def __init__(
        self,
        inputs: InputSource,
        applier: Applier,
        calibrations: Calibrations = lambda _: (),
        measurements: Measurements | None = None,
    ) -> None:
        self._inputs = inputs
        self._calibrations = calibrations
        self._measurements = measurements or Measurements()
        self._applier = applier
        self._updates: dict[Key, tuple[str, str | None]] = {}

    async def propose(
        self, server: VLLMServer, in_force: Pinned | None, remembered: Remembered
    ) -> Proposal | Objection:
        """A plan for the specification as it stands.

        A change that only the pod template reads keeps plan and inputs. What is remembered of the
        last plan counts where the pinned one was deleted. An edit of a running server is shown to
        the API server first (dry run): a pod template that it refuses must not replace one that
        works. Raises ApiError and TemporaryFailure where the API server fails; an input's outage is
        an objection.
        """
        proposal = await self._planned(server, in_force, remembered)
        if isinstance(proposal, Objection):
            return proposal
        objects = proposal.planned.objects
        try:
            absent = await self._ensure_names(server, [one["kind"] for one in objects])
        except NameConflict as conflict:
            return conflicted(conflict)
        if in_force is not None:
            key = (server.metadata.namespace, server.metadata.name)
            for one in objects:
                refusal = await self._applier.refusal(one, key)
                if refusal is not None:
                    return refused_by_server(refusal)
        return replace(proposal, absent=absent)

    async def _planned(
        self, server: VLLMServer, in_force: Pinned | None, remembered: Remembered
    ) -> Proposal | Objection:
        release, kept, learned = RELEASE, None, taken_over(server, in_force)
        if relation(in_force, server) is Relation.OTHER_POD and in_force and in_force.sized:
            release, kept = in_force.release, in_force.sized
            inputs = PlanningInputs.from_json_object(in_force.inputs)
            if (inputs.repairs, inputs.tuned) != (learned.repairs, learned.tuned):
                inputs, kept = replace(inputs, repairs=learned.repairs, tuned=learned.tuned), None
        else:
            try:
                standing = standing_of(server, in_force, remembered)
                inputs = await self._inputs.resolve(server, standing)
            except TemporaryFailure as failure:
                return unavailable(failure)
            await self._learn(server, in_force)
            inputs = self._with_measured(server, inputs)
            inputs = replace(inputs, repairs=learned.repairs, tuned=learned.tuned)
        found = rendered(server, inputs, kept) if kept else planned(server, inputs)
        if inputs.tuned is not None and not _tuned_for(found, in_force):
            inputs = replace(inputs, tuned=None)
            found = planned(server, inputs)
        if isinstance(found, Unplanned):
            return unplannable(without_groups(server, inputs, found), inputs)
        return Proposal(found, inputs, release=release)

    async def repaired(
        self, server: VLLMServer, in_force: Pinned, repair: Repair
    ) -> Proposal | Objection:
        """The plan in force with one more repair, from the inputs that are pinned with it.

        Problems where no layout is left, and none where the repair changes no argument.
        """
        assert in_force.plan is not None
        inputs = PlanningInputs.from_json_object(in_force.inputs)
        inputs = replace(
            inputs,
            repairs=(*inputs.repairs, repair),
            preferred_product=in_force.plan.placement.gpu,
        )
        found = planned(server, inputs)
        if isinstance(found, Unplanned):
            return Objection(tuple(found.problems))
        if found.plan.engine == in_force.plan.engine:
            return Objection()
        return Proposal(found, inputs, repair=repair.reason)

    async def tried(
        self, server: VLLMServer, in_force: Pinned, candidate: Candidate
    ) -> Proposal | Objection:
        """The plan in force with a candidate's setting, from the inputs that are pinned with it.

        Problems where none is possible that differs in that and in nothing else.
        """
        assert in_force.plan is not None
        length = in_force.plan.capacity.max_model_len
        tuned = replace(candidate.tuned, max_model_len=length)
        found = self._with_tuned(server, in_force, tuned)
        if isinstance(found, Objection):
            return found
        why = unlike(in_force, found.planned)
        if why is not None:
            return no_trial(why)
        key = (server.metadata.namespace, server.metadata.name)
        refusal = await self._applier.refusal(found.planned.objects[0], key)
        return found if refusal is None else refused_by_server(refusal)

    def untuned(self, server: VLLMServer, in_force: Pinned, trial: Trial) -> Proposal | Objection:
        """The plan in force with the setting that a trial's plan followed."""
        found = self._with_tuned(server, in_force, trial.before)
        return replace(found, tuning=instead_of(trial)) if isinstance(found, Proposal) else found

    def _with_tuned(
        self, server: VLLMServer, in_force: Pinned, tuned: Tuned | None
    ) -> Proposal | Objection:
        assert in_force.plan is not None
        product = in_force.plan.placement.gpu
        inputs = PlanningInputs.from_json_object(in_force.inputs)
        inputs = replace(inputs, tuned=tuned, preferred_product=product)
        found = planned(server, inputs)
        if isinstance(found, Unplanned):
            return Objection(tuple(found.problems))
        return Proposal(found, inputs)

    async def update(self, server: VLLMServer, in_force: Pinned, *, live: bool) -> str | None:
        """What a new plan would change, or None. ``live`` re-reads a referenced ConfigMap."""
        key = (server.metadata.namespace, server.metadata.name)
        if in_force.plan is None:
            return None
        pinned = PlanningInputs.from_json_object(in_force.inputs)
        try:
            now = await self._inputs.compare(server, pinned, live=live)
            now = self._with_measured(server, now)
            now = replace(now, repairs=pinned.repairs, tuned=pinned.tuned)
        except TemporaryFailure:
            return self._updates.get(key, ("", None))[1]
        mark = f"{in_force.uid}/{now.fingerprint()}"
        known = self._updates.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        message = self._difference(server, in_force, pinned, now)
        self._updates[key] = (mark, message)
        return message

    async def _learn(self, server: VLLMServer, in_force: Pinned | None) -> None:
        """Take in what benchmarks of the plan in force have measured."""
        if in_force is None or in_force.plan is None or self._measurements.shelf is None:
            return
        kept = await self._inputs.benchmarks(server)
        if not kept:
            return
        measured = server.model_copy(update={"spec": in_force.spec})
        product = in_force.plan.placement.gpu
        inputs = replace(
            PlanningInputs.from_json_object(in_force.inputs),
            # An error of the estimate is what is left where the GPU is known as well as now.
            measured_gpus=among(self._measurements.gpus(), [product]),
        )
        found = speeds_of(measured, in_force.plan, inputs, read_results(kept))
        await self._measurements.learn(found)

    def _with_measured(self, server: VLLMServer, inputs: PlanningInputs) -> PlanningInputs:
        """With what engines measured of the model, and what was measured of its GPUs."""
        gpu = server.spec.gpu
        named = () if gpu is None or gpu.product is None else (gpu.product,)
        products = {*named, *(offer.product for offer in inputs.offers)}
        return replace(
            inputs,
            calibrations=self._calibrations(server.spec.model.id),
            measured_gpus=among(self._measurements.gpus(), products),
            measured_speeds=tuple(
                one
                for one in self._measurements.speeds(server.spec.model.id)
                if one.kind.gpu in products
            ),
        )

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone."""
        self._updates.pop(key, None)
        self._inputs.forget(key)

    def _difference(
        self, server: VLLMServer, in_force: Pinned, pinned: PlanningInputs, now: PlanningInputs
    ) -> str | None:
        if in_force.release == RELEASE and now.fingerprint() == pinned.fingerprint():
            return None
        before = in_force.plan
        assert before is not None
        found = planned(server, now)
        if isinstance(found, Planned):
            found = settled(server, before, found, now)
        if isinstance(found, Unplanned):
            return plan_difference(before, found)
        as_before = replace(
            now,
            calibrations=pinned.calibrations,
            measured_gpus=pinned.measured_gpus,
            measured_speeds=pinned.measured_speeds,
            prices=pinned.prices,
        )
        # With the same inputs what differs is only known better, and nothing would run otherwise.
        moves = (found.plan.engine, found.plan.placement) != (before.engine, before.placement)
        if moves or as_before.fingerprint() != pinned.fingerprint():
            difference = plan_difference(before, found.plan)
            if difference is not None:
                return difference
        if template_of(found.objects) != in_force.template:
            if now.identity != pinned.identity:
                return f"the operator's default of spec.pod.identity is {now.identity} now"
            return f"release {RELEASE} renders the pod template otherwise"
        return None

    async def _ensure_names(self, server: VLLMServer, kinds: Sequence[str]) -> frozenset[str]:
        """The kinds of children that do not exist. Raises NameConflict for somebody else's.

        A Deployment that nobody has told of is not looked for: one without our label has another
        selector, which belongs to whoever made it, so that one applied without force is refused.
        """
        key = (server.metadata.namespace, server.metadata.name)
        uid = server.metadata.uid
        asked = [
            kind for kind in kinds if kind != DEPLOYMENTS.kind or self._applier.knows(kind, key)
        ]
        found = await asyncio.gather(
            *(self._applier.ensure_ours(kind, key, key[1], uid) for kind in asked)
        )
        there = {kind for kind, record in zip(asked, found, strict=True) if record is not None}
        return frozenset(kinds) - there


def without_groups(server: VLLMServer, inputs: PlanningInputs, found: Unplanned) -> Unplanned:
    """``found``, or that LeaderWorkerSets are missing where they are all that a plan lacks."""
    if inputs.max_nodes > 1:
        return found
    larger = planned(server, replace(inputs, max_nodes=LARGEST_GROUP))
    if isinstance(larger, Unplanned):
        return found
    placement = larger.plan.placement
    each = placement.gpus_per_replica // placement.nodes
    first = f"; on one node: {found.problems[0].message}" if found.problems else ""
    missing = LeaderWorkerSetMissing(
        "spec.gpu",
        f"a replica takes {placement.nodes} nodes of {each} {placement.gpu}, and this cluster has "
        f"no LeaderWorkerSets; install them ({INSTALL_GROUPS}), and the operator plans this server "
        f"at its next resync{first}",
    )
    return unplanned(server, inputs, [missing])


def _tuned_for(found: Planned | Unplanned, in_force: Pinned | None) -> bool:
    """Whether a plan is of the kind that its tuned values were proven for."""
    before = in_force.plan if in_force is not None else None
    return before is not None and isinstance(found, Planned) and same_kind(before, found.plan)


def settled(
    server: VLLMServer, before: Plan, found: Planned, now: PlanningInputs
) -> Planned | Unplanned:
    """A new plan, on the product that a server runs on where that is as good: that there are more
    nodes of another one today is no reason to move. A lower price is, where the price decides."""
    if not is_a_tie(before, found.plan):
        return found
    stays = planned(server, replace(now, preferred_product=before.placement.gpu))
    workload = server.spec.workload
    by_money = workload is not None and profile_of(workload).cheap
    by_tokens = workload is not None and workload.concurrency is not None
    cheaper = isinstance(stays, Planned) and is_cheaper(found.plan, stays.plan, by_tokens=by_tokens)
    return found if by_money and cheaper else stays
