"""A tuner and a simulated server: what it wants is made so, and what that does is counted.

This is the seam at which the operator and the simulator drive the same tuner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from vllm_operator.tuning.knobs import Knobs

from .metrics import Buckets, Scraped, scraped
from .planned import Server
from .service import Pod, Service

LOOK_SECONDS: Final = 60.0
SCRAPE_SECONDS: Final = 15.0
EPOCH: Final = 1.7e9
"""What the simulation's start is in seconds since the epoch."""

TrialPod = Literal["Absent", "NoRoom", "Starting", "Ready"]


@dataclass(frozen=True, slots=True)
class PodReading:
    """What was scraped of a pod since the look before."""

    pod: str
    rows: Sequence[Sequence[float]]
    buckets: Buckets

    def series(self, names: Collection[str] | None = None) -> list[Scraped]:
        """Its series, without the labels of pod and namespace; of metrics of these names, which
        are those of ``engine/metrics.csv``."""
        found = scraped(self.rows, self.buckets, {"model_name": "simulated"}, EPOCH)
        if names is None:
            return found
        kept = []
        for one in found:
            parts = (one.name.removesuffix(end) for end in ("_bucket", "_count", "_sum"))
            if one.name in names or any(part in names for part in parts):
                kept.append(one)
        return kept


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod as the operator sees it."""

    name: str
    knobs: Knobs
    ready: float
    """Seconds since the epoch."""
    trial: bool
    cache_config: Mapping[str, str]
    """The labels of ``vllm:cache_config_info``."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The server as the operator sees it."""

    replicas: int
    stable: Knobs
    """The setting in force."""
    pods: tuple[PodSeen, ...]
    """Those that are ready."""
    trial: TrialPod
    settled_since: float | None
    """Since when all replicas are ready, have the setting in force, and nothing is beside them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should exist."""

    stable: Knobs
    """What all replicas should have: another one than is in force promotes, or goes back."""
    trial: Knobs | None = None
    """What one pod should try."""
    state: str = "Observing"
    reason: str = ""


Look = Callable[[float, Sequence[PodReading], Observed], Wanted]
"""Time in seconds since the epoch, what was scraped since the last look, and what is seen."""


@dataclass(slots=True)
class _Start:
    """A pod on its way."""

    knobs: Knobs
    ready: float
    place: int | None
    trial: bool


@dataclass(slots=True)
class Verdict:
    """How a trial ended."""

    minute: float
    before: Knobs
    tried: Knobs
    verdict: str
    reason: str


@dataclass(slots=True)
class Told:
    """What a session did."""

    starts: int = 0
    replica_starts: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    promotions: list[tuple[Knobs, Knobs]] = field(default_factory=list)
    settled: float | None = None
    """Seconds at which it settled for good."""
    state: str = ""


class Session:
    """One server, its pods, and a tuner that looks at them."""

    def __init__(self, server: Server, workload: Mapping[str, Any], look: Look) -> None:
        self.server, self.look = server, look
        self.service = Service(server, workload, every=SCRAPE_SECONDS)
        self.replicas: int = server.told["replicas"]
        self.surge = workload.get("spareGPUs", 0) >= server.tensor
        self.in_place = workload.get("disruption", "Forbid") == "Allow"
        self.stable = server.start
        self.told = Told()
        self._starting: list[_Start] = []
        self._trial: Pod | None = None
        self._trying: Knobs | None = None
        self._no_room = False
        self._settled_since: float | None = 0.0
        self._compiled = {_compiled_for(self.stable)}
        for place in range(self.replicas):
            self.service.add(self.stable, place)

    def run(self) -> Told:
        """Until the arrivals end."""
        service = self.service
        while service.now < service.end:
            due = min(service.now + LOOK_SECONDS, service.end)
            while service.now < due:
                ready = min((one.ready for one in self._starting), default=due)
                service.advance(min(due, max(ready, service.now)))
                self._ready()
                self._roll()
            self._settled()
            wanted = self.look(EPOCH + service.now, self._readings(), self._observed())
            self.told.state = wanted.state
            changed = self._apply(wanted)
            if wanted.state != "Settled" or changed or self._settled_since is None:
                self.told.settled = None
            elif self.told.settled is None:
                self.told.settled = service.now
        return self.told

    def _apply(self, wanted: Wanted) -> bool:
        """Makes the tuner's wish so; whether it was another one."""
        now, changed = self.service.now, False
        trial = wanted.trial if wanted.trial != wanted.stable else None
        if wanted.stable != self.stable:
            changed = True
            if wanted.stable == self._trying:
                self.told.promotions.append((self.stable, wanted.stable))
                self._verdict("promoted", wanted.reason)
                self._promote()
            elif self._trying is not None:
                self._end(wanted.reason)
            self.stable = wanted.stable
            self._trying = None
            self._starting = [one for one in self._starting if one.knobs == self.stable]
            self._settled_since = None
        if trial != self._trying:
            changed = True
            if self._trying is not None:
                self._end(wanted.reason)
            if trial is not None and self._settled_since is not None:
                self._begin(trial, now)
        elif trial is None:
            self._no_room = False
        self._roll()
        return changed

    def _begin(self, knobs: Knobs, now: float) -> None:
        place = None
        if not self.surge:
            if not self.in_place:
                self._no_room = True
                return
            place = self.replicas - 1
            self.service.remove(self._at(place))
        self.told.starts += 1
        self._trying = knobs
        self._settled_since = None
        self._start(knobs, now, place, trial=True)

    def _end(self, reason: str) -> None:
        """Takes a trial back."""
        self._verdict("taken back", reason)
        self._trying = None
        self._starting = [one for one in self._starting if not one.trial]
        if self._trial is not None:
            self.service.remove(self._trial)
            self._trial = None

    def _promote(self) -> None:
        """Makes the trial's pod the first of the replicas."""
        pod, self._trial = self._trial, None
        for one in self._starting:
            one.trial = False
        if pod is not None and pod.place is None:
            old = self._at(self.replicas - 1)
            self.service.remove(old)
            self.service.take_place(pod, self.replicas - 1)

    def _roll(self) -> None:
        """Starts what is missing, one at a time: pods that all replicas should have."""
        if self._starting or self._trying is not None:
            return
        serving = [pod for pod in self.service.pods if not pod.draining]
        missing = set(range(self.replicas)) - {pod.place for pod in serving}
        now = self.service.now
        if missing:
            self._start(self.stable, now, min(missing), trial=False)
            return
        old = [pod for pod in serving if pod.knobs != self.stable]
        if not old:
            return
        if self.surge:
            self._start(self.stable, now, None, trial=False)
        elif self.in_place:
            self.service.remove(old[0])
            self._start(self.stable, now, old[0].place, trial=False)

    def _start(self, knobs: Knobs, now: float, place: int | None, *, trial: bool) -> None:
        planned = self.server.planned(knobs)
        if planned is None:
            raise ValueError(f"no plan has {knobs}")
        warm = _compiled_for(knobs) in self._compiled
        seconds = planned.warm if warm else planned.cold
        self.told.replica_starts += 1
        self._starting.append(_Start(knobs, now + seconds, place, trial))

    def _ready(self) -> None:
        now = self.service.now
        for one in [one for one in self._starting if one.ready <= now]:
            self._starting.remove(one)
            self._compiled.add(_compiled_for(one.knobs))
            pod = self.service.add(one.knobs, one.place)
            if one.trial:
                self._trial = pod
            elif one.place is None:
                old = next(
                    pod
                    for pod in self.service.pods
                    if not pod.draining and pod.place is not None and pod.knobs != self.stable
                )
                place = old.place
                assert place is not None
                self.service.remove(old)
                self.service.take_place(pod, place)

    def _settled(self) -> None:
        serving = [pod for pod in self.service.pods if not pod.draining]
        calm = not self._starting and self._trying is None and len(serving) == self.replicas
        if not calm or any(pod.knobs != self.stable for pod in serving):
            self._settled_since = None
        elif self._settled_since is None:
            self._settled_since = self.service.now

    def _verdict(self, verdict: str, reason: str) -> None:
        assert self._trying is not None
        minute = self.service.now / 60.0
        self.told.verdicts.append(Verdict(minute, self.stable, self._trying, verdict, reason))

    def _at(self, place: int) -> Pod:
        return next(pod for pod in self.service.pods if pod.place == place and not pod.draining)

    def _readings(self) -> list[PodReading]:
        found = []
        for pod in self.service.pods:
            if not pod.draining:
                found.append(PodReading(pod.name, pod.new, self.service.buckets))
            pod.new = []
        return found

    def _observed(self) -> Observed:
        trial: TrialPod = "NoRoom" if self._no_room else "Absent"
        if self._trying is not None:
            trial = "Ready" if self._trial is not None else "Starting"
        since = self._settled_since
        return Observed(
            replicas=self.replicas,
            stable=self.stable,
            pods=tuple(
                PodSeen(
                    pod.name,
                    pod.knobs,
                    EPOCH + pod.since,
                    pod is self._trial,
                    {
                        "num_gpu_blocks": str(pod.engine.setting.blocks + 1),
                        "block_size": str(pod.engine.setting.block_size),
                        "gpu_memory_utilization": str(pod.knobs.gpu_memory_utilization),
                    },
                )
                for pod in self.service.pods
                if not pod.draining
            ),
            trial=trial,
            settled_since=None if since is None else EPOCH + since,
        )


def _compiled_for(knobs: Knobs) -> tuple[int, int]:
    """What the compile cache's key has of the knobs (vLLM 0.32.0 ``config/scheduler.py``)."""
    return knobs.max_num_seqs, knobs.max_num_batched_tokens


def leave_alone(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
    """A tuner that does nothing."""
    return Wanted(observed.stable, state="Settled")


def scripted(trial: Knobs, *, begin: float, end: float, promote: bool) -> Look:
    """A tuner that tries one setting between two times, in seconds since the simulation's start,
    and then promotes it or takes it back."""

    def look(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        passed = now - EPOCH
        if observed.stable == trial or (passed >= end and not promote):
            return Wanted(observed.stable, state="Settled")
        if passed >= end and observed.trial == "Ready":
            return Wanted(trial, state="Promoting", reason="as told")
        if passed >= begin:
            return Wanted(observed.stable, trial, state="Judging")
        return Wanted(observed.stable)

    return look
