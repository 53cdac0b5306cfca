"""How the engine's container of a pod ended the last time, as its status tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.engine.failures import ended

MESSAGE_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Ending:
    """One end of the container."""

    id: str
    """Tells this end from the next one."""
    text: str
    """Exit code, reason and termination message, as ``engine.failures.ended`` writes them."""
    message: str
    """The termination message: the log's last lines where the pod's policy says so."""
    container: str
    previous: bool
    """Whether the log is that of the container before the one that runs or waits.

    By the pod's status as it was seen: where this is false, the kubelet may have started the
    container again since.
    """
    served: bool
    """Whether the pod had been ready in that life."""
    ends: int
    """How often the container has ended."""
    started: str | None = None
    """When the life began that ended so; None where it never did, or the status does not say."""


def engine_status(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The engine's entry in a pod's container statuses; empty where there is none yet."""
    statuses = (body.get("status") or {}).get("containerStatuses") or []
    named = [status for status in statuses if status.get("name") == ENGINE]
    return next(iter([*named, *statuses]), {})


def ending_of(body: Mapping[str, Any]) -> Ending | None:
    """The last end of a pod's engine, None where it never ended.

    One that ended in order was told to, as by an eviction of which the pod does not say anything
    yet. Where nobody told it, its kubelet starts it again at once, and the end is the last one.
    """
    container = engine_status(body)
    state = container.get("state") or {}
    now = state.get("terminated")
    in_order = now is not None and not now.get("exitCode")
    if in_order:
        now = None
    last = now or (container.get("lastState") or {}).get("terminated")
    if not last:
        return None
    message = str(last.get("message") or "")[:MESSAGE_LIMIT]
    restarts = int(container.get("restartCount", 0))
    return Ending(
        id=str(last.get("containerID") or f"{last.get('finishedAt')}-{restarts}"),
        text=ended(int(last.get("exitCode", 0)), str(last.get("reason") or "Error"), message),
        message=message,
        container=str(container.get("name", ENGINE)),
        previous=now is None,
        served=_served(body, last),
        ends=restarts if in_order or "running" in state else restarts + 1,
        started=None if _never_began(last) else last.get("startedAt"),
    )


def _never_began(last: Mapping[str, Any]) -> bool:
    """Whether the runtime could not start it: a kubelet then writes the time 0, in 1970."""
    started = last.get("startedAt")
    return started is not None and datetime.fromisoformat(started).year <= 1970


def _served(body: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Whether the pod was ready until the container ended: only then Ready changed after a start.

    A pod that never was ready keeps the time of its creation there. Of a container that it lost, as
    when its node is started again, a kubelet does not say when it began: not before its pod.
    """
    status = body.get("status") or {}
    conditions = status.get("conditions") or []
    changed = next((c.get("lastTransitionTime") for c in conditions if c["type"] == "Ready"), None)
    started = last.get("startedAt") or status.get("startTime")
    if not changed or not started or _never_began(last):
        return False
    return datetime.fromisoformat(changed) > datetime.fromisoformat(started)
