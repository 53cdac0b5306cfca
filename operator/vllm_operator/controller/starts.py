"""What to do about a server whose pods do not start: look, decide, and repair the plan once."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.sizing.inputs import PlanningInputs

from .boot import BootReader
from .metrics import Metrics
from .planning import Planner, Proposal
from .records import ChildRecord, Key, PodRecord
from .repair import Trouble, Verdict, decide, trouble
from .revisions import Pinned


class Starts:
    """Watches over the starts of the engines of plans in force."""

    def __init__(self, reader: BootReader, planner: Planner, metrics: Metrics) -> None:
        self._reader = reader
        self._planner = planner
        self._metrics = metrics

    async def look_into(
        self,
        key: Key,
        server: VLLMServer,
        in_force: Pinned,
        deployment: ChildRecord | None,
        pods: Sequence[PodRecord],
        *,
        may_repair: bool,
    ) -> tuple[Proposal, Trouble | None]:
        """A repaired plan, or what stops the pods; neither where nothing does.

        ``may_repair`` is false where the plan in force is not that of the specification as it
        stands. Raises ApiError and TemporaryFailure where the API server fails.
        """
        diagnosis = await self._reader.diagnose(key, in_force, deployment, pods)
        if diagnosis is None:
            return Proposal(), None
        verdict = Verdict()
        if may_repair:
            made = PlanningInputs.from_json_object(in_force.inputs).repairs
            verdict = decide(server.spec, in_force, made, diagnosis, pods)
        if verdict.repair is not None:
            proposal = await self._planner.repaired(server, in_force, verdict.repair)
            if proposal.plan is not None:
                self._metrics.plan_repairs.labels(verdict.repair.kind).inc()
                return proposal, None
            why = next((problem.message for problem in proposal.problems), "it changes nothing")
            verdict = Verdict(refusal=f"a repair is not possible: {why}")
        return Proposal(), trouble(diagnosis.failure, verdict)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone."""
        self._reader.forget(key)
