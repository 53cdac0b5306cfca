"""Checks of a server that runs, by what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.conditions import Condition
from vllm_operator.api.counting import counted
from vllm_operator.api.performance import Performance
from vllm_operator.engine.attention import Attention, standing
from vllm_operator.hardware import catalogue
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.load import Load
from vllm_operator.tuning.quality import Held, Hold

from .checks import Check, failed, passed, skipped, warned
from .figures import Figures

FIRST_TOKEN_SECONDS: Final = 0.5
"""Within which first tokens should come where nobody asks for another time."""
TOKENS_A_SECOND: Final = 20.0
"""That a request which generates should see where nobody asks for another number."""

SLO_FIELD: Final = "spec.workload.slo"
MONITOR_FIELD: Final = "prometheus.podMonitor.enabled in the operator's chart"


def health(
    ready: Condition | None, replicas: int, serving: int, pods: Sequence[PodRecord]
) -> Check:
    """Whether all replicas serve, and none had to start again."""
    name = "health"
    if ready is None:
        return failed(name, "the operator has said nothing of it yet", "")
    if ready.status != "True" or serving < replicas:
        said = f"{serving} of {counted(replicas, 'replica')} serve; {ready.reason}: {ready.message}"
        return failed(name, said, "")
    said = f"{serving} of {counted(replicas, 'replica')} serve"
    restarts = sum(one.restarts for one in pods)
    if restarts:
        worst = max(pods, key=lambda one: (one.restarts, one.name))
        ended = f", {worst.last_exit}" if worst.last_exit else ""
        return warned(
            name, f"{said}, after {counted(restarts, 'restart')}: {worst.name}{ended}", ""
        )
    return passed(name, said)


def objective(
    asked: Objective | None,
    load: Load | None,
    seen: Figures | None,
    predicted: Performance | None,
) -> Check:
    """Whether latencies are asked for, and kept: as seen, else as the plan predicts."""
    name = "objective"
    if asked is None:
        return _without_objective(seen, predicted)
    allowed = 1.0 - asked.share
    kinds: list[tuple[str, float | None, Between | None]] = [
        ("first tokens", asked.time_to_first_token, load.late_first_tokens if load else None),
        ("gaps between tokens", asked.inter_token_latency, load.late_gaps if load else None),
    ]
    parts, worst = [], 0
    for what, limit, late in kinds:
        if limit is None or late is None:
            continue
        worst = max(worst, 2 if late.low > allowed else 1 if late.high > allowed else 0)
        parts.append(
            f"{_range(late)} of {what} take longer than {1000 * limit:g} ms, and "
            f"{_percent(allowed)} may"
        )
    if not parts:
        return _predicted(asked, predicted)
    said = "; ".join(parts)
    if worst == 2:
        return failed(name, said, SLO_FIELD)
    if worst == 1:
        return warned(
            name, f"{said}: no edge of a bucket lies there, so it is not decided", SLO_FIELD
        )
    return passed(name, said)


def _predicted(asked: Objective, predicted: Performance | None) -> Check:
    name = "objective"
    if predicted is None:
        return skipped(
            name, "no request was seen, and nothing is predicted for this GPU", SLO_FIELD
        )
    parts, late = [], False
    for what, limit, expected in (
        ("to the first token", asked.time_to_first_token, predicted.time_to_first_token),
        ("between tokens", asked.inter_token_latency, predicted.inter_token_latency),
    ):
        if limit is not None:
            late = late or expected > limit
            parts.append(f"{1000 * expected:.0f} ms {what}, and {1000 * limit:g} ms are asked for")
    said = f"predicted at {counted(predicted.concurrency, 'request')} at once: {'; '.join(parts)}"
    return warned(name, said, SLO_FIELD) if late else passed(name, said)


def _without_objective(seen: Figures | None, predicted: Performance | None) -> Check:
    """Held to what a person who waits would like."""
    first, gap, how = None, None, "measured"
    if seen is not None and seen.time_to_first_token is not None:
        first, gap = seen.time_to_first_token, seen.inter_token_latency
    elif predicted is not None:
        first, gap = predicted.time_to_first_token, predicted.inter_token_latency
        how = f"predicted at {counted(predicted.concurrency, 'request')} at once"
    said = "no latency is asked for, so that nobody is told when it is not kept"
    if first is not None:
        said += f"; {how}: {1000 * first:.0f} ms to the first token"
        said += " (more than" if first > FIRST_TOKEN_SECONDS else " (within"
        said += f" the {1000 * FIRST_TOKEN_SECONDS:.0f} ms that people wait gladly)"
    if gap:
        said += f", {1 / gap:.1f} tokens a second for a request"
        said += " (fewer than" if 1 / gap < TOKENS_A_SECOND else " (at least"
        said += f" {TOKENS_A_SECOND:g})"
    return warned("objective", said, SLO_FIELD)


@dataclass(frozen=True, slots=True)
class Scraped:
    """What is known of who reads the pods' metrics."""

    asked: bool = False
    """Whether a Prometheus was asked."""
    held: Held | None = None
    """What is wrong with what it has."""
    monitors: Sequence[str] | None = None
    """PodMonitors that select the pods; None where nobody could look."""
    missing: str = ""
    """Why nobody could look."""


def metrics(scraped: Scraped) -> Check:
    """Whether somebody reads the engines' metrics."""
    name = "metrics"
    by = ", ".join(scraped.monitors or ())
    if scraped.asked and (scraped.held is None or scraped.held.reason is Hold.TOO_LITTLE_TRAFFIC):
        said = "Prometheus has fresh samples of all pods"
        return passed(name, f"{said}, by PodMonitor {by}" if by else said)
    if scraped.asked and scraped.held is not None:
        return failed(name, scraped.held.message, MONITOR_FIELD)
    if by:
        return passed(name, f"PodMonitor {by} selects the pods; no Prometheus was asked")
    if scraped.monitors is not None:
        return warned(
            name, "no PodMonitor selects the pods, and no Prometheus was asked", MONITOR_FIELD
        )
    return skipped(name, scraped.missing, MONITOR_FIELD)


def selects(monitor: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a PodMonitor selects pods of a namespace with such labels."""
    spec = monitor.get("spec") or {}
    spaces = spec.get("namespaceSelector") or {}
    home = (monitor.get("metadata") or {}).get("namespace")
    named = spaces.get("matchNames") or [home]
    if not spaces.get("any") and namespace not in named:
        return False
    selector = spec.get("selector") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions") or ())


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(expression.get("key"))), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def attention(found: Attention | None, gpu: str, missing: str = "") -> Check:
    """Whether the engine runs with one of the backends that vLLM would rather have.

    ``missing``: why no log was read.
    """
    name = "attention backend"
    if found is None:
        why = missing or "the engine's log tells of none: its beginning may be gone"
        return skipped(name, why)
    said = f"the engine's log says {found.backend}"
    if found.precluded:
        return warned(
            name, f"{said}, as --block-size precludes {found.precluded}", "spec.engine.blockSize"
        )
    known = catalogue.find(gpu)
    amd = known is not None and known.resource_name == catalogue.AMD_RESOURCE
    rank = standing(found.backend, "amd" if amd else "nvidia")
    if rank == "fallback":
        return warned(
            name,
            f"{said}, which vLLM takes where none of the faster ones can be used; with "
            "VLLM_LOGGING_LEVEL DEBUG its log says why",
            "spec.engine.env",
        )
    return passed(name, said if rank else f"{said}; it is not known how vLLM ranks that on {gpu}")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a short completion came to."""

    tokens: int = 0
    seconds: float = 0.0
    problem: str = ""
    """What came instead; empty where tokens came."""
    missing: str = ""
    """Why none was asked for."""
    way: str = "through the Service"
    """How it was asked for."""


def completion(found: Answered) -> Check:
    """Whether a client would be answered."""
    name = "completion"
    if found.missing:
        return skipped(name, found.missing)
    if found.problem:
        return failed(name, found.problem, "")
    tokens = counted(found.tokens, "token")
    return passed(name, f"{tokens} came {found.way} within {found.seconds:.2f} s")


def disruption_budget(says: str | None, free: int | None, replicas: int) -> Check:
    """What a drain may do to the server.

    ``says``: what its PodDisruptionBudget says, as ``maxUnavailable 1``; None where there is none.
    ``free``: how many pods may go now; None where nobody counted.
    """
    name = "disruption budget"
    if says is None and replicas > 1:
        return failed(name, f"none guards the {replicas} replicas", "spec.replicas")
    if says is None:
        said = "none is made for less than two replicas: a drain would never end"
        return warned(name, said, "spec.replicas")
    if free == 0:
        return warned(name, f"{says}: no pod may go now, so that a drain waits", "spec.replicas")
    now = "" if free is None else f": {counted(free, 'pod')} may go now"
    return passed(name, f"{says}{now}")


def _range(late: Between) -> str:
    low, high = 100 * late.low, 100 * late.high
    return f"{low:.1f} %" if high - low < 0.05 else f"{low:.1f} to {high:.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
