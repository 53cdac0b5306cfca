"""Several simulated pods behind one Service, and what they did."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from vllm_operator.tuning.knobs import Knobs, Objective

from . import state as at
from .engine import Batch, Engine, Request, Setting
from .load import Arrival, Phase, dealt, phases
from .metrics import Buckets
from .planned import Server
from .seconds import NEVER
from .steps import Truth

MINUTE = 60.0


@dataclass(slots=True)
class Pod:
    """A pod that serves, or finishes what it has."""

    name: str
    knobs: Knobs
    engine: Engine
    place: int | None
    """Which of the replicas it is; None for one beside them."""
    since: float
    """When it became ready, in seconds since the simulation's start."""
    clients: int = 0
    draining: bool = False
    new: list[Any] = field(default_factory=list)
    """Its samples since they were last read."""
    row: Any = None
    """Its last sample at a full minute."""


@dataclass(slots=True)
class Minute:
    """Tokens and what was too slow, in one minute, of all pods."""

    gaps: float = 0.0
    slow_gaps: float = 0.0
    firsts: float = 0.0
    slow_firsts: float = 0.0
    gap_seconds: float = 0.0
    steps: float = 0.0
    step_tokens: float = 0.0

    def broken(self, objective: Objective) -> bool:
        """Whether the objective was not kept."""
        allowed = 1.0 - objective.share + 1e-9
        return self.slow_gaps > allowed * self.gaps or self.slow_firsts > allowed * self.firsts


def objective_of(workload: Mapping[str, Any]) -> Objective | None:
    """A workload's ``slo``."""
    told = workload.get("slo")
    if told is None:
        return None
    first = told.get("timeToFirstTokenMilliseconds")
    gap = told.get("interTokenLatencyMilliseconds")
    return Objective(
        None if first is None else first / 1000,
        None if gap is None else gap / 1000,
        float(told.get("percentile", 95)),
    )


class Service:
    """The pods of one server and the workload that is sent to them."""

    def __init__(
        self,
        server: Server,
        workload: Mapping[str, Any],
        *,
        every: float = MINUTE,
        arriving: tuple[Phase, ...] | None = None,
        batches: dict[Any, list[Batch]] | None = None,
        only: int | None = None,
    ) -> None:
        """``arriving``: the phases, where they are drawn already. ``batches``: what a service with
        the same phases has dealt out before. ``only``: the one replica that is simulated."""
        self.server, self.workload = server, workload
        self.objective = objective_of(workload)
        self.truth = Truth.of(workload.get("truth", {}))
        self.phases = arriving or phases(workload, server.max_model_len)
        self._batches = {} if batches is None else batches
        replicas = server.told["replicas"]
        self.balance = list(workload.get("balance") or [1 / replicas] * replicas)
        if len(self.balance) != replicas:
            raise ValueError(f"{workload['name']}: balance is not that of {replicas} replicas")
        self.shared = int(workload["lengths"].get("sharedPrefix", 0))
        goal = self.objective or Objective()
        gap, first = goal.inter_token_latency, goal.time_to_first_token
        self._goals = (gap or NEVER, first or NEVER)
        edges = [[k * one for k in (0.5, 1.0, 2.0)] if one else [] for one in (gap, first)]
        custom = server.version.release >= (0, 32, 0)
        self.buckets = Buckets.of(server.max_model_len, *(edges if custom else ()))
        self.pods: list[Pod] = []
        self.minutes: dict[int, Minute] = {}
        self.now = 0.0
        self._every, self._only, self._made = every, only, 0
        self._phase: Phase | None = None
        self._unsent: list[Arrival] = []
        self._gone = [0.0] * (at.INTS + 4)

    @property
    def end(self) -> float:
        """When the last arrivals end."""
        return self.phases[-1].end

    def add(self, knobs: Knobs, place: int | None, name: str = "") -> Pod:
        """A pod that is ready now."""
        planned = self.server.planned(knobs)
        if planned is None:
            raise ValueError(f"no plan has {knobs}")
        number = self._made
        self._made += 1
        truth = self.truth
        engine = Engine(
            Setting(
                knobs.max_num_seqs,
                knobs.max_num_batched_tokens,
                planned.blocks,
                planned.block_size,
                knobs.max_num_active_seqs,
            ),
            self.server.hardware,
            truth,
            self.buckets,
            started=self.now,
            every=self._every,
            gap_objective=self._goals[0],
            first_objective=self._goals[1],
            shared_prefix=self.shared,
            seed=f"{self.workload['name']} {number}",
            pod=place,
        )
        pod = Pod(name or f"pod-{number}", knobs, engine, place, self.now)
        self.pods.append(pod)
        self._spread()
        return pod

    def take_place(self, pod: Pod, place: int) -> None:
        """Makes a pod that stood beside the replicas one of them."""
        pod.place = place
        self._spread()

    def remove(self, pod: Pod) -> None:
        """Sends it nothing more; what it has it finishes."""
        pod.draining = True
        pod.engine.more_clients(-pod.clients, self.now)
        pod.clients = 0
        self._spread()

    def shares(self) -> list[tuple[Pod, float]]:
        """The pods that get requests and their shares: those of the replicas that serve, in
        proportion, and of one beside them 1/(replicas + 1)."""
        serving = [pod for pod in self.pods if not pod.draining]
        beside = sum(pod.place is None for pod in serving)
        own = 1.0 / (len(self.balance) + 1)
        total = sum(self.balance[pod.place] for pod in serving if pod.place is not None)
        rest = 1.0 - own * beside if total else 1.0
        return [
            (pod, (own if total else 1.0 / beside))
            if pod.place is None
            else (pod, rest * self.balance[pod.place] / total)
            for pod in serving
        ]

    def advance(self, until: float) -> None:
        """Lets all pods work until then."""
        while self.now < until:
            phase = next((one for one in self.phases if one.end > self.now), None)
            stop = min(until, phase.end if phase else until)
            if phase is not self._phase:
                self._phase = phase
                for pod in self.pods:
                    pod.clients = 0
                self._spread()
            self._send(phase, stop)
            for pod in self.pods:
                pod.engine.advance(stop)
                self._read(pod)
            self.now = stop
            for pod in [pod for pod in self.pods if pod.draining]:
                if pod.engine.running + pod.engine.waiting == 0:
                    self._forget(pod)

    def count(self, which: int) -> int:
        """A counter of all pods, those that are gone too."""
        return int(sum(pod.engine.count(which) for pod in self.pods) + self._gone[which])

    def gaps(self) -> tuple[float, float]:
        """Count and sum of the times between tokens, of all pods."""
        held = [pod.engine.histogram(at.GAP) for pod in self.pods]
        return (
            float(sum(count for count, _ in held) + self._gone[at.INTS]),
            float(sum(total for _, total in held) + self._gone[at.INTS + 1]),
        )

    def firsts(self) -> tuple[float, float]:
        """Requests that got their first token, or wait longer than they should, and those late."""
        count = sum(pod.engine.histogram(at.FIRST)[0] for pod in self.pods)
        late = sum(pod.engine.late(self.now)[1] for pod in self.pods)
        count += self._gone[at.INTS + 2] + late
        return float(count), float(self.count(at.SLOW_FIRST) + late)

    def _send(self, phase: Phase | None, stop: float) -> None:
        shares = self.shares()
        if not shares:
            self._unsent += phase.between(self.now, stop) if phase else ()
            return
        # Of what waited for a pod the time of arrival is when there is one.
        key = (self.now, stop, tuple(share for _, share in shares))
        dealt_out = None if self._unsent else self._batches.get(key)
        if dealt_out is None:
            arrivals = [*self._unsent, *(phase.between(self.now, stop) if phase else ())]
            dealt_out = self._dealt_out(arrivals, key[2])
            if not self._unsent:
                self._batches[key] = dealt_out
            self._unsent = []
        for (pod, _), batch in zip(shares, dealt_out, strict=True):
            if self._only is None or pod.place == self._only:
                pod.engine.send(batch)

    def _dealt_out(self, arrivals: Sequence[Arrival], shares: Sequence[float]) -> list[Batch]:
        batches: list[list[Request]] = [[] for _ in shares]
        edges = list(accumulate(shares))
        for one in arrivals:
            place = min(bisect_right(edges, one.ticket * edges[-1]), len(edges) - 1)
            batches[place].append(Request(one.sent, one.prompt, one.output))
        seconds = self.server.hardware.request_seconds * self.truth.overhead
        return [Batch.of(batch, seconds) for batch in batches]

    def _spread(self) -> None:
        """Gives each pod its part of the clients."""
        phase = self._phase
        if phase is None or not phase.clients:
            return
        shares = self.shares()
        parts = dealt(phase.clients, [share for _, share in shares]) if shares else []
        for (pod, _), part in zip(shares, parts, strict=True):
            if self._only is not None and pod.place != self._only:
                continue
            if pod.clients == 0 and part:
                turn = 997 * int(pod.name.rpartition("-")[2]) % len(phase.pool)
                pool = phase.pool[turn:] + phase.pool[:turn]
                pod.engine.serve_clients(part, phase.end, pool, self.now)
            else:
                pod.engine.more_clients(part - pod.clients, self.now)
            pod.clients = part

    def _read(self, pod: Pod) -> None:
        rows = pod.engine.taken()
        pod.new += rows
        place = at.GAUGES + at.COUNTED.index(at.SLOW_GAPS)
        for row in rows:
            if row[0] % MINUTE:
                continue
            gaps, gap_seconds = self._histogram(row, at.GAP)
            firsts, _ = self._histogram(row, at.FIRST)
            steps, tokens = self._histogram(row, at.STEP)
            slow = float(row[place]), float(row[place + 1])
            held = (gaps, slow[0], firsts, slow[1], gap_seconds, steps, tokens)
            before = pod.row or (0.0,) * len(held)
            minute = self.minutes.setdefault(int(row[0] / MINUTE) - 1, Minute())
            minute.gaps += held[0] - before[0]
            minute.slow_gaps += held[1] - before[1]
            minute.firsts += held[2] - before[2]
            minute.slow_firsts += held[3] - before[3]
            minute.gap_seconds += held[4] - before[4]
            minute.steps += held[5] - before[5]
            minute.step_tokens += held[6] - before[6]
            pod.row = held

    def _histogram(self, row: Any, which: int) -> tuple[float, float]:
        starts = self.buckets.starts
        start = at.GAUGES + len(at.COUNTED) + starts[which] + 2 * which
        end = start + starts[which + 1] - starts[which] + 1
        return float(sum(row[start:end])), float(row[end])

    def _forget(self, pod: Pod) -> None:
        for which in range(at.INTS):
            self._gone[which] += pod.engine.count(which)
        count, total = pod.engine.histogram(at.GAP)
        self._gone[at.INTS] += count
        self._gone[at.INTS + 1] += total
        self._gone[at.INTS + 2] += pod.engine.histogram(at.FIRST)[0]
        self.pods.remove(pod)
