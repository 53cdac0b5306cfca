"""The list before production: every check of a server, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vllm_operator.api.conditions import Condition
from vllm_operator.api.plan import Plan, Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.attention import Attention
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.tuned import objective_of

from . import planned, running
from .checks import Check, failed, passed, skipped
from .figures import Figures
from .look import Look
from .running import Answered, Scraped

ONLY_RUNNING: Final = ("attention backend", "health", "metrics", "completion")
NO_CLUSTER: Final = "a file says nothing of it: check the NAME of a server that runs"


@dataclass(frozen=True, slots=True)
class Running:
    """What was seen of a server in its cluster. What could not be read says why."""

    ready: Condition | None
    """The condition ``Ready``."""
    serving: int
    """Pods that serve."""
    pods: Sequence[PodRecord] = ()
    look: Look | None = None
    """What its metrics say; None where nobody could be asked."""
    scraped: Scraped = field(default_factory=Scraped)
    attention: Attention | None = None
    no_log: str = ""
    budget: Mapping[str, Any] | None = None
    """Its PodDisruptionBudget; None where there is none."""
    no_budget: str = ""
    """Why that could not be read; empty where it was."""
    answered: Answered = field(default_factory=Answered)


def checklist(
    server: VLLMServer,
    plan: Plan | None,
    problems: Sequence[Problem] = (),
    *,
    no_plan: str = "",
    budget: Mapping[str, Any] | None = None,
    seen: Running | None = None,
) -> list[Check]:
    """Every check. Without a plan only that there is none, or with ``no_plan`` why it cannot be
    read.

    ``budget`` is the PodDisruptionBudget that the operator would make, of a server in a file;
    ``seen`` what is seen of one in a cluster.
    """
    if no_plan:
        return [failed("plan", no_plan, "")]
    if plan is None:
        first = problems[0] if problems else None
        why = f"{first.reason}: {first.message}" if first else "the operator has not planned it yet"
        return [failed("plan", why, first.field if first else "")]
    figures = _figures(seen)
    place = plan.placement
    gpus = f"{place.gpus_per_replica} x {place.gpu}"
    load = seen.look.load if seen and seen.look else None
    return [
        passed("plan", f"{plan.model.id} with vLLM {plan.engine.version} on {gpus} a replica"),
        planned.quantization(server, plan),
        planned.prefix_caching(server, plan, figures),
        planned.memory_utilization(server, plan, figures),
        planned.request_length(server, plan, figures),
        *(_running(seen, plan, server) if seen else _not_running()),
        running.objective(objective_of(server), load, figures, plan.performance),
        planned.replicas(server),
        _budget(server, budget, seen),
    ]


def _running(seen: Running, plan: Plan, server: VLLMServer) -> list[Check]:
    return [
        running.attention(seen.attention, plan.placement.gpu, seen.no_log),
        running.health(seen.ready, server.spec.replicas, seen.serving, seen.pods),
        running.metrics(seen.scraped),
        running.completion(seen.answered),
    ]


def _not_running() -> list[Check]:
    return [skipped(name, NO_CLUSTER) for name in ONLY_RUNNING]


def _budget(server: VLLMServer, made: Mapping[str, Any] | None, seen: Running | None) -> Check:
    replicas = server.spec.replicas
    if seen is None:
        return running.disruption_budget(_says(made), None, replicas)
    if seen.no_budget:
        return skipped("disruption budget", seen.no_budget)
    status = (seen.budget or {}).get("status") or {}
    return running.disruption_budget(_says(seen.budget), status.get("disruptionsAllowed"), replicas)


def _says(budget: Mapping[str, Any] | None) -> str | None:
    spec = (budget or {}).get("spec") or {}
    for name in ("maxUnavailable", "minAvailable"):
        if spec.get(name) is not None:
            return f"{name} {spec[name]}"
    return None


def _figures(seen: Running | None) -> Figures | None:
    """Where requests came: an idle server's say nothing."""
    found = seen.look.figures if seen is not None and seen.look is not None else None
    return found if found is not None and found.request_tokens is not None else None
