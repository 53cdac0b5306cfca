"""The operator's tuner at the seam of the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from enginesimulator.planned import Server as Simulated
from enginesimulator.session import Look, Observed, PodReading, Wanted
from vllm_operator.api.ledger import Tuning
from vllm_operator.engine.graphs import Graphs
from vllm_operator.engine.metrics import metrics
from vllm_operator.sizing.performance.server import Server
from vllm_operator.tuning.candidates import Rules, has_active_seqs
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.ledger import TrialRevision
from vllm_operator.tuning.proposals import Planned, Refused
from vllm_operator.tuning.quality import held
from vllm_operator.tuning.samples import PARTS, Series, read
from vllm_operator.tuning.scene import Facts, Scene
from vllm_operator.tuning.standing import Candidate, Desired, Mode, Stable, State, Wants
from vllm_operator.tuning.tuner import Tuner

WINDOW: Final = 120.0
"""Seconds of samples that a look reads, as the operator asks for."""
TRIALS_A_DAY: Final = 2


class Driven:
    """One server's tuner, driven as the operator drives it."""

    def __init__(self, simulated: Simulated, workload: Mapping[str, Any]) -> None:
        self.simulated = simulated
        self.durations = Durations()
        self.tuner = Tuner(self.durations)
        self.tuning: Tuning | None = None
        self.objective = _objective(workload.get("slo"))
        self.revisions: list[TrialRevision] = []
        self.in_place = workload.get("disruption", "Forbid") == "Allow"
        self.samples: dict[str, list[Any]] = {}
        self.parent: Knobs | None = None
        self.tried: Knobs | None = None
        known = metrics(simulated.version)
        self.names = {
            known[meaning].name + (part and f"_{part}"): (meaning, part)
            for meaning, parts in PARTS.items()
            if meaning in known
            for part in parts
        }

    def look(self, now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        """What should exist."""
        read = [self._read(one, now) for one in readings]
        found = self.tuner.seen.recall(read, now - self.durations.window)
        self.tuner.learn(found, held(found, now, self.durations), now)
        trial = next((pod for pod in observed.pods if pod.trial), None)
        scene = self._scene(observed, trial)
        look = self.tuner.look(self.tuning, self._facts(observed.stable), scene, now)
        self.tuning = look.tuning
        edge, standing = look.step.edge, look.step.standing
        if edge is not None and edge.source is State.PROPOSED and standing.state is State.STARTING:
            self.parent, self.tried = observed.stable, look.knobs
            name = f"trial-{len(self.revisions) + 1}"
            self.revisions.append(TrialRevision(name, now, "", promoted=False))
            assert self.tuning is not None
            assert self.tuning.trial is not None
            trial_of = self.tuning.trial.model_copy(update={"revision": name})
            self.tuning = self.tuning.model_copy(update={"trial": trial_of})
        reason = ""
        if edge is not None:
            reason = edge.sentence if look.judgement is None else look.judgement.reason
        wanted = observed.stable, None
        if look.wants is Wants.TRIAL:
            wanted = observed.stable, self.tried
        elif look.wants is Wants.PROMOTED:
            wanted = self.tried or observed.stable, None
        elif standing.state is State.ROLLING_BACK and observed.stable == self.tried:
            wanted = self.parent or observed.stable, None
        return Wanted(*wanted, state=standing.state.value, reason=reason)

    def _read(self, reading: PodReading, now: float) -> Any:
        lines = self.samples.setdefault(reading.pod, [])
        for one in reading.series():
            if one.name in self.names:
                lines.append(Series(*self.names[one.name], one.labels, one.samples))
        recent = [
            Series(one.meaning, one.part, one.labels, kept)
            for one in lines
            if (kept := [sample for sample in one.samples if sample[0] > now - WINDOW])
        ]
        self.samples[reading.pod] = recent
        joined: dict[Any, list[Any]] = {}
        for one in recent:
            key = one.meaning, one.part, tuple(sorted(one.labels.items()))
            joined.setdefault(key, []).extend(one.samples)
        series = [
            Series(meaning, part, dict(labels), samples)
            for (meaning, part, labels), samples in joined.items()
        ]
        return read(reading.pod, series, self.durations, self.objective)

    def _scene(self, observed: Observed, trial: Any) -> Scene:
        stable = [pod for pod in observed.pods if not pod.trial and pod.knobs == observed.stable]
        candidate = {
            "Absent": Candidate.ABSENT,
            "NoRoom": Candidate.NO_ROOM,
            "Starting": Candidate.RUNNING,
            "Ready": Candidate.READY,
        }[observed.trial]
        others = [pod for pod in observed.pods if not pod.trial and pod.knobs != observed.stable]
        in_place = self.in_place and trial is not None and not stable
        full = len(stable) == observed.replicas
        beside = observed.trial in ("Starting", "Ready") and len(stable) >= observed.replicas - 1
        settled = (full and not others) or beside
        return Scene(
            desired=Desired(Mode.AUTO),
            pods=frozenset(pod.name for pod in stable),
            stable=Stable.SETTLED if settled else Stable.ROLLING,
            trial_pod=trial.name if trial else None,
            trial_ready=trial.ready if trial else None,
            candidate=candidate,
            in_place=in_place,
            start_seconds=3600.0,
            revisions=tuple(self.revisions),
            settled_since=observed.settled_since,
            starts_allowed=TRIALS_A_DAY,
        )

    def _facts(self, knobs: Knobs) -> Facts:
        planned = self.simulated.planned(knobs)
        assert planned is not None
        return Facts(
            knobs=knobs,
            server_at=self._server,
            plan_at=self._plan,
            rules=Rules(
                active_seqs=has_active_seqs(self.simulated.version),
                graphs=Graphs(self.simulated.hardware.largest_graph),
                cold_seconds=planned.cold,
                warm_seconds=planned.warm,
            ),
            objective=self.objective,
            pod_kv_tokens=float(planned.blocks * planned.block_size),
        )

    def _server(self, knobs: Knobs) -> Server:
        return self.simulated.shipped(knobs)

    def _plan(self, knobs: Knobs) -> Planned | Refused:
        planned = self.simulated.planned(knobs)
        if planned is None:
            return Refused("the planner refuses it")
        return Planned(float(planned.blocks * planned.block_size), self.simulated.ceiling)


def operator(simulated: Simulated, workload: Mapping[str, Any]) -> Look:
    """The tuner that the operator has."""
    return Driven(simulated, workload).look


def _objective(slo: Mapping[str, Any] | None) -> Objective | None:
    if slo is None:
        return None
    first = slo.get("timeToFirstTokenMilliseconds")
    gap = slo.get("interTokenLatencyMilliseconds")
    return Objective(
        time_to_first_token=None if first is None else first / 1000,
        inter_token_latency=None if gap is None else gap / 1000,
        percentile=float(slo.get("percentile", 95)),
    )
