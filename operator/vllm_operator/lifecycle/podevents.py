"""When a pod's events are read, and which of them says why its node does not prepare it. Pure.

A volume that cannot be attached or mounted, and a network that is not there, stand in no status:
the pod is in ContainerCreating, as one whose image is pulled. Only its events say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from vllm_operator.engine.failures import Failure, known_failure
from vllm_operator.engine.versions import Version

from .records import PodRecord

FIRST_READ_SECONDS: Final = 20.0
"""How long a pod is left to its node first: disks take that long to be attached, and what a cache
of the kubelet lacks at first passes by itself."""
MOST_SECONDS: Final = 300.0
"""Between two reads; until then a pod is read again once it has waited for twice as long."""
FRESH_SECONDS: Final = 300.0
"""How much older than the newest failure one may be that says more. A kubelet mounts again at
least every 122 s, and its events are dropped beyond one in five minutes when it tells many."""

GONE_ON: Final = frozenset({"Pulling", "Pulled", "Created", "Started"})
"""Events after which volumes and network are there."""
ATTACHED: Final = "SuccessfulAttachVolume"
ATTACHING: Final = "FailedAttachVolume"

Event = Mapping[str, Any]


def reads_due(pod: PodRecord, now: datetime) -> int:
    """How often the events of a pod are to have been read by now; 0 where they need not be."""
    waited = _waited(pod, now)
    return 0 if waited is None else _schedule(waited)[0]


def next_read(pods: Iterable[PodRecord], now: datetime) -> float | None:
    """Seconds until the events of one of the pods are due; None where none are."""
    times = [waited for pod in pods if (waited := _waited(pod, now)) is not None]
    return min((_schedule(waited)[1] - waited for waited in times), default=None)


def told(events: Sequence[Event], version: Version) -> Failure | None:
    """What keeps a pod's node from preparing it, by the newest of its events that says so.

    A general one, such as that a volume is not there in time, gives way to one of about the same
    time that says why. None where the pod has gone on since, or the table knows none of them.
    """
    newest_first = sorted(events, key=_at, reverse=True)
    found: list[tuple[datetime, Failure]] = []
    attached = False
    for event in newest_first:
        reason = str(event.get("reason") or "")
        if reason in GONE_ON:
            break
        attached = attached or reason == ATTACHED
        if attached and reason == ATTACHING:
            continue
        failure = known_failure("event", f"{reason}: {event.get('note') or ''}", version)
        if failure is not None:
            found.append((_at(event), failure))
    if not found:
        return None
    since = found[0][0] - timedelta(seconds=FRESH_SECONDS)
    fresh = [failure for at, failure in found if at >= since]
    return next((failure for failure in fresh if not failure.weak), fresh[0])


def _schedule(waited: float) -> tuple[int, float]:
    """Reads that are due after so many seconds, and after how many the next one is."""
    reads, due = 0, FIRST_READ_SECONDS
    while due <= waited:
        reads, due = reads + 1, due + min(due, MOST_SECONDS)
    return reads, due


def _waited(pod: PodRecord, now: datetime) -> float | None:
    """Seconds since the kubelet took a pod that it has yet to prepare, or since one was made whose
    own claim is yet to be; None for any other."""
    since = pod.started_at or (None if pod.scheduled else pod.created_at)
    if not pod.unprepared or pod.deleting or not since:
        return None
    return (now - datetime.fromisoformat(since)).total_seconds()


def _at(event: Event) -> datetime:
    """When an event was seen last. Recorders of the older API write the deprecated fields."""
    metadata = event.get("metadata") or {}
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        metadata.get("creationTimestamp"),
    )
    return max(datetime.fromisoformat(time) for time in times if time)
