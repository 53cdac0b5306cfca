"""What the API server's audit log says of one identity: every request, whoever counted it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request. Times are the API server's, in seconds since the epoch."""

    received: float
    answered: float
    verb: str
    resource: str
    """Plural, with the subresource behind a slash; the path where it is no resource."""

    code: int

    @property
    def kind(self) -> str:
        """Verb and resource; a server-side apply is a patch."""
        return f"{self.verb} {self.resource}"

    @property
    def is_write(self) -> bool:
        """Whether it may have changed an object. Leases are renewed by the clock and not counted.

        A refused request changed nothing. One that was answered with success is counted, although
        an apply that says what is there already changes nothing either: the stricter reading.
        """
        kept = self.verb in WRITES and self.code < 400
        return kept and not self.resource.startswith("leases")


class AuditLog:
    """Reads the log on from where it was read last; keeps the requests of the named users."""

    def __init__(self, path: Path, users: Iterable[str]) -> None:
        self._path = path
        self._offset = 0
        self._requests: dict[str, list[Request]] = {user: [] for user in users}
        # The log holds every component's requests. Lines of others are skipped unparsed.
        self._marks = {user: json.dumps(user).encode() for user in self._requests}

    def between(self, user: str, start: float, end: float) -> list[Request]:
        """The user's requests that were received in this time, by time."""
        self._read()
        found = [one for one in self._requests[user] if start <= one.received <= end]
        return sorted(found, key=lambda one: one.received)

    def _read(self) -> None:
        with self._path.open("rb") as lines:
            lines.seek(self._offset)
            for line in lines:
                if not line.endswith(b"\n"):  # half written
                    break
                self._offset += len(line)
                user = next((user for user, mark in self._marks.items() if mark in line), None)
                if user is None:
                    continue
                event = json.loads(line)
                if event["user"]["username"] == user and event["stage"] == "ResponseComplete":
                    self._requests[user].append(_request(event))


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef") or {}
    resource = reference.get("resource") or event["requestURI"].partition("?")[0]
    if reference.get("subresource"):
        resource += f"/{reference['subresource']}"
    return Request(
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        verb=event["verb"],
        resource=resource,
        code=(event.get("responseStatus") or {}).get("code", 0),
    )


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def by_verb(requests: Sequence[Request]) -> dict[str, int]:
    """How many requests of each verb, most first."""
    return dict(Counter(one.verb for one in requests).most_common())


def by_kind(requests: Sequence[Request]) -> dict[str, int]:
    """How many requests of each verb on each resource, most first."""
    return dict(Counter(one.kind for one in requests).most_common())


def median_seconds(requests: Sequence[Request]) -> dict[str, float]:
    """How long the API server took to answer, in the median, by verb and resource."""
    times: dict[str, list[float]] = {}
    for one in requests:
        times.setdefault(one.kind, []).append(one.answered - one.received)
    return {kind: statistics.median(seconds) for kind, seconds in times.items()}


def writes(requests: Sequence[Request]) -> int:
    """How many of them are writes."""
    return sum(one.is_write for one in requests)
