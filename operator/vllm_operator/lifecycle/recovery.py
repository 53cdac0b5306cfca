"""Whether and how to change a plan whose engine does not start. Pure.

A repair lowers what nobody pinned, as far as the engine's own words say, and at most three times
for a specification. It is pinned with the plan that it leads to, so that a restart of the operator
counts on, and a later edit starts afresh. A plan that some replica serves with is never repaired:
that would restart a running replica for the sake of another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from vllm_operator.api.conditions import START_FAILURES
from vllm_operator.api.counting import counted
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine, VLLMServerSpec
from vllm_operator.engine.failures import Failure
from vllm_operator.errors import Irreparable
from vllm_operator.sizing.asked.repairs import REPAIR_LIMIT, Repair
from vllm_operator.sizing.layout.batch_limits import SHORTEST_USEFUL_LENGTH

from .records import PodRecord
from .revisions import Pinned, pods_of_plan

SPARE: Final = 0.98
"""Share of vLLM's own estimate that is taken: the next start measures a little otherwise."""

LENGTH_STEP: Final = 256
UTILIZATION_STEP: Final = 0.03
MOST_TAKEN: Final = 0.1
"""Share of the GPU that somebody else may hold before it is theirs to leave, not ours to do with
less."""

SHARE_TRIED: Final = 0.15
"""A single allocation above this share of the GPU is not made room for by less KV cache."""

FEWEST_SEQUENCES: Final = 16

STARTS_TRIED: Final = 2
"""Starts after which a plan that cannot work is given up: one more than it takes to see that."""

OUTAGE_SECONDS: Final = 300.0
"""How long no replica may be ready because of a plan that never served, before the one before it
serves again, where what stops it might pass by itself."""

NODES_ASKED_FOR: Final = (
    "node_selector",
    "affinity",
    "tolerations",
    "topology_spread_constraints",
    "priority_class_name",
    "runtime_class_name",
    "resources",
)
"""Fields of ``spec.pod`` that say which nodes take a pod."""

UNITS: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a server's pods do not start."""

    failure: Failure
    ends: int = 0
    """How often the engine has ended by it."""
    served: bool = False
    """Whether the engine had served before."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stops a server's pods, for its conditions."""

    reason: str
    message: str
    stops: bool
    """Whether the operator does nothing more about it: the server must change."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a failure."""

    repair: Repair | None = None
    refusal: str = ""
    """Why there is no repair, where one might be expected."""
    waits: bool = False
    """Whether the engine is given another start first."""


def decide(
    spec: VLLMServerSpec,
    in_force: Pinned,
    made: Sequence[Repair],
    diagnosis: Diagnosis,
    pods: Sequence[PodRecord],
) -> Verdict:
    """The next repair of the plan in force, or why there is none.

    ``made`` are those before, ``pods`` those of the plan.
    """
    failure, plan = diagnosis.failure, in_force.plan
    if failure.repair == "none" or diagnosis.served or plan is None:
        return Verdict()
    if any(pod.serves for pod in pods):
        return Verdict(refusal="another replica serves with the same plan, which is kept")
    if any(tries(pod) for pod in pods):
        return Verdict(waits=True)
    pinned = _pinned(spec.engine or Engine(), failure)
    if pinned is not None:
        return Verdict(refusal=f"{pinned} is pinned, so that the operator does not change it")
    if len(made) >= REPAIR_LIMIT:
        return Verdict(
            refusal=f"{REPAIR_LIMIT} repairs of the plan have not helped, and there is no other"
        )
    if diagnosis.ends < failure.after:
        return Verdict(waits=True)
    try:
        limit, before = _LIMITS[failure.repair](spec, plan, failure)
    except Irreparable as refusal:
        return Verdict(refusal=str(refusal))
    shown = f"{limit:g}" if isinstance(limit, float) else str(limit)
    reason = (
        f"repair {len(made) + 1} of {REPAIR_LIMIT}: lowered from {before} to {shown} after a "
        f"failed start, where {failure.means}"
    )
    return Verdict(repair=Repair(failure.repair, limit, reason[:512]))


def trouble(failure: Failure, verdict: Verdict) -> Trouble:
    """What the conditions say of a failure that is not repaired (yet)."""
    assert failure.reason in START_FAILURES
    message = f"{failure.message}; {verdict.refusal}" if verdict.refusal else failure.message
    stops = not failure.passes and not verdict.waits
    return Trouble(failure.reason, message, stops)


@dataclass(frozen=True, slots=True)
class Past:
    """What became of a server's earlier plans."""

    served: bool = False
    """Whether the server was ready with a plan of the specification as it stands."""
    good: Pinned | None = None
    """The plan of another specification with which it was last ready."""
    down_since: datetime | None = None
    """Since when no replica is ready; None where one is."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Whether a plan is given up now, and when to look again (seconds) if time alone decides."""

    is_over: bool = False
    look_again: float | None = None
    hopes: bool = False
    """Whether another start may end otherwise, whatever the diagnosis says."""


def patience(
    in_force: Pinned,
    past: Past,
    pods: Sequence[PodRecord],
    diagnosis: Diagnosis | None,
    stops: bool,
    now: datetime,
) -> Patience:
    """How long a plan is tried whose pods do not start, for what a diagnosis says or for want of
    a node (no diagnosis); ``stops`` says that the diagnosis leaves no hope.

    A specification that has served is never given up: what stops it came from outside. Neither is
    one of whose pods another still loads for the first time: what stops one may be its node.
    """
    if past.served:
        return Patience(hopes=True)
    if in_force.abandoned is not None or (diagnosis is not None and diagnosis.served):
        return Patience()
    mine = [pod for pod in pods_of_plan(in_force, pods) if pod.leads]
    if any(pod.serves or tries(pod) for pod in mine):
        return Patience(hopes=True)
    serving = any(pod.serves for pod in pods)
    if serving and past.good is None:
        return Patience()  # nothing to go back to, and something to lose
    if stops and diagnosis is not None:
        enough = diagnosis.ends >= STARTS_TRIED
        return Patience(is_over=enough, hopes=not enough)
    if serving or past.good is None or past.down_since is None or any(p.runs for p in mine):
        return Patience()
    if diagnosis is None and not _may_find_a_node(past.good, in_force):
        return Patience()  # going back would find none either
    since = _tried_since(in_force, mine, past.down_since, now)
    left = OUTAGE_SECONDS - (now - since).total_seconds()
    return Patience(is_over=left <= 0, look_again=max(left, 0.0) or None)


def _tried_since(
    in_force: Pinned, mine: Sequence[PodRecord], down_since: datetime, now: datetime
) -> datetime:
    """Since when a plan is tried: a server that was down, or scaled to zero, before the plan was
    made or its pods were wanted is no longer down because of it.

    Times ahead of ours are another clock's, and say nothing.
    """
    starts = [in_force.created_at, min((pod.created_at for pod in mine), default="")]
    known = [datetime.fromisoformat(start) for start in starts if start]
    return max([down_since, *(start for start in known if start <= now)])


def tries(pod: PodRecord) -> bool:
    """Whether a pod's engine runs and has not ended yet."""
    return pod.runs and pod.ending is None


def _may_find_a_node(one: Pinned, other: Pinned) -> bool:
    """Whether a plan's pods may find a node where another plan's do not.

    They take fewer GPUs of the same product, or they ask for other nodes.
    """
    mine, theirs = one.pod, other.pod
    if any(getattr(mine, name) != getattr(theirs, name) for name in NODES_ASKED_FOR):
        return True
    if one.plan is None or other.plan is None:
        return False
    here, there = one.plan.placement, other.plan.placement
    return here.gpu == there.gpu and here.gpus_per_replica < there.gpus_per_replica


def _pinned(engine: Engine, failure: Failure) -> str | None:
    """The field that a repair would have to change, where it is pinned."""
    value, field = {
        "shorterMaxModelLen": (engine.max_model_len, "spec.engine.maxModelLen"),
        "lowerUtilization": (engine.gpu_memory_utilization, "spec.engine.gpuMemoryUtilization"),
        "fewerSequences": (engine.max_num_seqs, "spec.engine.maxNumSeqs"),
    }[failure.repair]
    return None if value is None else field


def _shorter(spec: VLLMServerSpec, plan: Plan, failure: Failure) -> tuple[int, str]:
    before = plan.capacity.max_model_len
    limit = int(int(failure.numbers["estimated"]) * SPARE)
    step = LENGTH_STEP if limit >= 16 * LENGTH_STEP else plan.capacity.block_size
    limit = limit // step * step
    workload = spec.workload
    wanted = (workload.prompt_tokens or 0) + (workload.output_tokens or 0) if workload else 0
    needed = wanted or min(SHORTEST_USEFUL_LENGTH, before)
    if limit < needed:
        asked = "spec.workload expects" if wanted else "the shortest that is worth serving is"
        raise Irreparable(
            f"requests of {counted(limit, 'token')} are all that fits, and {asked} {needed}"
        )
    if limit >= before:
        raise Irreparable(f"{limit} tokens are not less than the {before} that were refused")
    return limit, str(before)


def _lower(spec: VLLMServerSpec, plan: Plan, failure: Failure) -> tuple[float, str]:
    before = plan.memory.utilization
    numbers = failure.numbers
    if "free" in numbers:
        share = float(numbers["free"]) / float(numbers["total"])
        limit = math.floor(share * 100 - 0.05) / 100
        if round(before - limit, 2) > MOST_TAKEN:
            raise Irreparable(
                f"a utilization of {limit:g} instead of {before:g} would leave that to somebody "
                "else for good"
            )
    else:
        share = _bytes(numbers.get("tried")) / plan.memory.total
        if share > SHARE_TRIED:
            raise Irreparable("a lower utilization would not make room for that")
        limit = round(before - max(UTILIZATION_STEP, math.ceil(share * 100) / 100), 2)
    if limit >= before or limit <= 0:
        raise Irreparable(f"a utilization of {before:g} is not the reason")
    return limit, f"{before:g}"


def _fewer(spec: VLLMServerSpec, plan: Plan, failure: Failure) -> tuple[int, str]:
    before = plan.capacity.max_num_seqs
    limit = int(failure.numbers.get("blocks", before // 2))
    workload = spec.workload
    asked = -(-((workload.concurrency if workload else None) or 0) // plan.placement.data)
    if limit >= before or limit < max(asked, min(FEWEST_SEQUENCES, before // 2 or 1)):
        least = f"spec.workload asks for {asked}" if asked else f"{before} are few already"
        raise Irreparable(f"{counted(limit, 'sequence')} at once would be too few: {least}")
    return limit, str(before)


_LIMITS: Final = {
    "shorterMaxModelLen": _shorter,
    "lowerUtilization": _lower,
    "fewerSequences": _fewer,
}


def _bytes(text: str | None) -> float:
    if text is None:
        return 0.0
    number, unit = text.split()
    return float(number) * UNITS[unit]
