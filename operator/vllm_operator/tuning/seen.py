"""What a tuner keeps of what was scraped of a server's pods. Prometheus has it too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from .durations import Durations
from .evidence import kept
from .intervals import Interval
from .packed import Packed
from .quality import Held
from .samples import Reading
from .standing import Metrics

STORED: Final = 900
"""Intervals of a pod of the setting in force from which on they are thinned."""
STUCK: Final = 8
"""Intervals without a step, with requests running, from which on an engine hangs."""
LONG_AGO: Final = float("-inf")


@dataclass(slots=True)
class Seen:
    """Intervals by pod, and whether what is read is sound."""

    held: Held | None = None
    """Why nothing is learned from what was read last."""
    pods: dict[str, Packed] = field(default_factory=dict)
    sound: float | None = None
    """When it last was sound, or was first read."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """By pod what was read last, without intervals, with what was read before."""

    def recall(self, readings: Iterable[Reading], since: float) -> list[Reading]:
        """With what was read before since a time: whether metrics are sound is not seen in the few
        intervals that each read asks for."""
        found = [self._joined(one, since) for one in readings]
        self.readings = {one.pod: replace(one, intervals=()) for one in found}
        return found

    def _joined(self, now: Reading, since: float) -> Reading:
        before = self.readings.get(now.pod)
        if before is None:
            return now
        first = now.intervals[0].end if now.intervals else float("inf")
        kept = tuple(one for one in self.of([now.pod], since) if one.end < first)
        resets = [one.reset for one in (before, now) if one.reset is not None]
        scrape = before.scrape if now.scrape is None else now.scrape
        reset = max(resets, default=None)
        return replace(now, intervals=kept + now.intervals, scrape=scrape, reset=reset)

    def learn(self, readings: Iterable[Reading], held: Held | None, now: float) -> None:
        """Takes what was read; ``held`` is why it may not be learned from."""
        self.held = held
        if held is None or self.sound is None:
            self.sound = now
        for reading in readings:
            self.pods.setdefault(reading.pod, Packed(reading.pod)).extend(reading.intervals)

    def of(self, pods: Iterable[str], since: float = LONG_AGO) -> list[Interval]:
        """Those of some pods that ended after a time."""
        known = [self.pods[pod] for pod in pods if pod in self.pods]
        return [one for some in known for one in some.after(since)]

    def keep_only(self, pods: frozenset[str]) -> None:
        """Forgets all others: they had another setting."""
        self.pods = {pod: some for pod, some in self.pods.items() if pod in pods}

    def thin(self, pods: frozenset[str], since: float) -> None:
        """Bounds what is kept: of pods of the setting in force some, of others those of which
        something was seen since a time: one that is not ready may be again."""
        self.pods = {
            pod: some
            for pod, some in self.pods.items()
            if pod in pods or (some.last is not None and some.last > since)
        }
        if sum(len(self.pods.get(pod, ())) for pod in pods) <= STORED * max(1, len(pods)):
            return
        left = kept(self.of(pods))
        for pod in pods:
            self.pods[pod] = Packed(pod, (one for one in left if one.pod == pod))

    def metrics(self, now: float, durations: Durations) -> Metrics:
        """Whether there is evidence."""
        if self.held is None and self.sound is not None:
            return Metrics.OK
        since = now if self.sound is None else self.sound
        return Metrics.LOST if now - since > durations.lost else Metrics.HOLD

    def hangs(self, pod: str) -> bool:
        """Whether a pod has had requests for a while, and moved none."""
        last = self.of([pod])[-STUCK:]
        return len(last) == STUCK and all(one.running > 0 and not one.steps for one in last)
