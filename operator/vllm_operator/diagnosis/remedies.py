"""What bounds a server in words, and what could be changed about it at what cost.

A table of kinds, with the plan's own numbers in it: where tuning can forecast, its proposal says
more, and comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vllm_operator import datafiles
from vllm_operator.api.plan import Plan
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.tuning.diagnosis import Bound

MEANS: Final[Mapping[Bound, str]] = {
    Bound.BROKEN: "something is broken: what would be measured says nothing",
    Bound.LOAD: "it could do more: what bounds it is how many requests come",
    Bound.KV_CACHE: "the KV cache is too small for the requests that come",
    Bound.DECODE_LATENCY: "gaps between tokens are too long, as many requests share each step",
    Bound.PREFILL_INTERFERENCE: "gaps between tokens are too long, as prompts come between",
    Bound.PREFILL_RATE: "first tokens are late, as steps have no room for more of the prompts",
    Bound.SEQUENCES: "requests wait for a place, though the KV cache has room",
    Bound.SATURATED: "more comes than it can answer, and no flag is what limits it",
    Bound.UNEVEN: "its pods have very different loads",
    Bound.NOTHING: "nothing is at a limit",
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that could be changed."""

    field: str
    """Path in the specification; empty where it is no field."""
    change: str
    gives: str
    costs: str


def remedies(bound: Bound, plan: Plan, replicas: int) -> Iterator[Remedy]:
    """What could be changed, what helps most often first; of kinds that the plan has already, none.

    A change of a flag starts every replica anew, one after the other: its cost says how long.
    """
    flags = {flag.name for flag in plan.flags}
    numbers = _numbers(plan, replicas)
    start = f"every replica starts anew, about {plan.startup.seconds:.0f} s each"
    for row in datafiles.rows(__package__, "remedies.csv"):
        if row["bound"] != bound.value or row["unless"] in flags:
            continue
        costs = row["costs"].format(**numbers)
        yield Remedy(
            field=row["field"],
            change=row["change"].format(**numbers),
            gives=row["gives"].format(**numbers),
            costs=f"{costs}; {start}" if row["restarts"] == "yes" else costs,
        )


def tokens_of_memory(plan: Plan, size: float) -> float:
    """Tokens of KV cache that ``size`` bytes of each GPU hold, by the plan's own ratio."""
    cache = plan.memory.kv_cache.expected
    return size * plan.capacity.kv_tokens.expected / cache if cache > 0 else 0.0


def _numbers(plan: Plan, replicas: int) -> dict[str, float]:
    return {
        "replicas": replicas,
        "gpus": plan.placement.gpus_per_replica,
        "tensor": plan.placement.tensor,
        "seqs": plan.capacity.max_num_seqs,
        "tokens": plan.capacity.max_num_batched_tokens,
        "utilization": plan.memory.utilization,
        "percent_tokens": tokens_of_memory(plan, 0.01 * plan.memory.total),
        "weights_gib": plan.memory.weights / GIBIBYTE,
    }
