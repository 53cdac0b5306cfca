"""One server's tuner: what it saw, what it proposes, and how a trial stands.

Operator and simulator drive the same one: ``learn`` takes what was scraped, ``look`` what is seen
of the pods, and says what should exist. Whatever it keeps in memory can be read from Prometheus
again; what may not be lost is in the status that ``look`` is given and gives back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from vllm_operator.api.ledger import Tuning
from vllm_operator.sizing.performance.server import Server

from .candidates import Rules
from .choice import PlanAt, Proposal, Reason, Rest, choose
from .curve import UNSEEN, Posterior, Prior, fit
from .diagnosis import Diagnosis, diagnose
from .durations import Durations
from .edges import HELD
from .entries import load_of, measurement_of, promise_of, proposal_of
from .evidence import kept
from .intervals import Interval
from .judge import Judgement, Verdict, judge
from .knobs import Knobs, Objective
from .leave import Circumstances, leave
from .ledger import (
    News,
    Tally,
    TrialRevision,
    alike,
    knobs_of,
    rejected,
    remember,
    setting_of,
    standing_of,
    tally,
)
from .load import Load, measured
from .machine import Step, transition, wants
from .quality import Held
from .samples import Reading
from .standing import (
    Candidate,
    Change,
    Desired,
    Judged,
    Metrics,
    Observed,
    Stable,
    Standing,
    State,
    Wants,
)
from .standing import Load as LoadSeen
from .standing import Proposal as Found
from .trial import Side, Trial, compared
from .window import Window

NEAR = 1.15
"""Ratio of two caps up to which two looks propose the same."""
STORED = 900
"""Intervals of the setting in force from which on they are thinned."""
STUCK = 8
"""Intervals without a step, with requests running, from which on an engine hangs."""
LATE = 1.2
"""Times the share that may be late, from which on a promoted setting does not keep its promise."""

FOUND = {
    Reason.PINNED: Found.PINNED,
    Reason.CAP_NOT_BINDING: Found.CAP_NOT_BINDING,
    Reason.NOTHING_TO_GAIN: Found.SETTLED,
    Reason.NOT_WORTH_A_START: Found.SETTLED,
    Reason.SCALE_OUT: Found.SCALE_OUT,
}
"""Of why nothing is tried; the other reasons leave it open."""

JUDGED = {
    Verdict.GOOD: Judged.GOOD,
    Verdict.BAD: Judged.BAD,
    Verdict.INCONCLUSIVE: Judged.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the plan in force, beside its metrics."""

    knobs: Knobs
    server_at: Callable[[Knobs], Server]
    """The server as shipped, with the limits of a setting."""
    plan_at: PlanAt
    rules: Rules
    """Without what was rejected: the status has that."""
    objective: Objective | None = None
    pod_kv_tokens: float | None = None
    """Tokens of one pod's KV cache, all ranks together."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen of a server, its pods and its trial. Times are seconds since the epoch."""

    desired: Desired
    pods: frozenset[str]
    """Of the setting in force, that serve."""
    stable: Stable
    trial_pod: str | None = None
    trial_ready: float | None = None
    candidate: Candidate = Candidate.ABSENT
    change: Change = Change.NONE
    in_place: bool = False
    """Whether the trial stands for the only replica."""
    start_seconds: float = 0.0
    kind: str = ""
    revisions: Sequence[TrialRevision] = ()
    describable: bool = True
    scalings: Sequence[float] = ()
    settled_since: float | None = None
    starts_allowed: int = 0
    window: Window | None = None
    permit: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """What a visit comes to."""

    tuning: Tuning | None
    """The status; the same object where it did not change."""
    step: Step
    held: Held | None
    """Why nothing is learned."""
    diagnosis: Diagnosis | None
    """What bounds the server, of the last window."""
    choice: Proposal | Rest | None
    """What was found the last time that was asked."""
    judgement: Judgement | None = None

    @property
    def wants(self) -> Wants:
        """What should exist."""
        return self.step.wants

    @property
    def knobs(self) -> Knobs | None:
        """The setting that is proposed or tried."""
        trial = self.tuning.trial if self.tuning else None
        return knobs_of(trial.to) if trial else None


@dataclass(slots=True)
class _Agreement:
    """What looks for a better setting found, and since when they say the same."""

    choice: Proposal | Rest | None = None
    since: float = 0.0
    at: float = float("-inf")

    def note(self, choice: Proposal | Rest, now: float) -> None:
        """A proposal stays what it was while the next ones are near it; a reason is the newest."""
        agree = _agree(self.choice, choice)
        if not agree:
            self.since = now
        if not agree or isinstance(choice, Rest):
            self.choice = choice
        self.at = now

    def confirmed(self, durations: Durations) -> Proposal | Rest | None:
        """What two looks, far enough apart, agree on."""
        return self.choice if self.at - self.since >= durations.hysteresis else None


@dataclass(slots=True)
class Tuner:
    """Of one server. ``prior`` is what is believed of servers of the kind."""

    durations: Durations = field(default_factory=Durations)
    prior: Prior = UNSEEN
    posterior: Posterior | None = None
    """Of the setting in force, at the last look."""
    held: Held | None = None
    _seen: dict[str, list[Interval]] = field(default_factory=dict)
    """By pod."""
    _sound: float | None = None
    """When metrics were last sound."""
    _knobs: Knobs | None = None
    _agreement: _Agreement = field(default_factory=_Agreement)
    _first_latency: float | None = None
    _before: Load | None = None
    """The stable pods' load in the trial that was promoted."""
    _judgement: Judgement | None = None
    """The last one of the trial that is, or was promoted."""

    def learn(self, readings: Iterable[Reading], held: Held | None, now: float) -> None:
        """Takes what was read; ``held`` is why it may not be learned from."""
        self.held = held
        if held is None or self._sound is None:
            self._sound = now
        for reading in readings:
            known = self._seen.setdefault(reading.pod, [])
            last = known[-1].end if known else float("-inf")
            known.extend(one for one in reading.intervals if one.end > last)

    def look(self, tuning: Tuning | None, facts: Facts, scene: Scene, now: float) -> Look:
        """What should exist now, and what the status says of it."""
        standing = standing_of(tuning, scene.desired, now)
        self._tidy(facts, scene, standing)
        count = tally(tuning, scene.revisions, scene.kind, now, self.durations)
        recent = self._of(scene.pods, now - self.durations.window)
        load = measured(recent, kv_tokens=facts.pod_kv_tokens)
        diagnosis = diagnose(recent, facts.knobs, facts.objective)
        found = self._found(tuning, facts, scene, standing, load, diagnosis, now)
        trial = self._trial(tuning, facts, scene, standing)
        verdict = None
        if trial is not None and standing.state is State.JUDGING:
            verdict = self._judgement = judge(trial, now, self.durations)
        elif standing.state not in (State.PROMOTING, State.VERIFYING):
            self._judgement = None
        observed = Observed(
            change=scene.change,
            metrics=self._metrics(now),
            proposal=found,
            candidate=self._candidate(scene),
            warm=trial is not None and bool(compared(trial, self.durations).candidate),
            judged=self._judged(verdict, facts, scene, standing, now),
            stable=scene.stable,
            leave=leave(_circumstances(scene, count), now, self.durations),
            load=self._drifted(tuning, facts, scene, standing, now),
            record=count.record,
            quiet=load is not None and load.rate * 4 * self.durations.interval < 1.0,
            start_seconds=scene.start_seconds,
            rollbacks=count.rollbacks,
        )
        step = transition(standing, scene.desired, observed, now, self.durations)
        news = self._news(facts, scene, load, self._judgement, now)
        if step.edge is not None and step.standing.state is State.PROMOTING:
            self._before = load
        return Look(
            remember(tuning, step, now, news),
            step,
            self.held,
            diagnosis,
            self._agreement.choice,
            verdict,
        )

    def _tidy(self, facts: Facts, scene: Scene, standing: Standing) -> None:
        """Forgets what is of another setting, or of pods that are gone.

        The curve outlives a change of the knobs, as what is believed before anything is seen.
        """
        if self._knobs is not None and self._knobs != facts.knobs:
            self._agreement = _Agreement()
            if self.posterior is not None:
                self.prior, self.posterior = self.posterior.prior(), None
            trial = scene.pods if wants(standing.state) is Wants.PROMOTED else frozenset()
            self._seen = {pod: some for pod, some in self._seen.items() if pod in trial}
        self._knobs = facts.knobs
        alive = scene.pods | {scene.trial_pod}
        stored = sum(len(some) for pod, some in self._seen.items() if pod in scene.pods)
        for pod, some in list(self._seen.items()):
            # A pod that is gone had the setting in force too: its load may not come back.
            if pod not in alive and not some:
                del self._seen[pod]
        if stored > STORED * max(1, len(scene.pods)):
            thin = kept(one for pod in scene.pods for one in self._seen.get(pod, ()))
            for pod in scene.pods:
                self._seen[pod] = [one for one in thin if one.pod == pod]

    def _of(self, pods: Iterable[str], since: float = float("-inf")) -> list[Interval]:
        return [one for pod in pods for one in self._seen.get(pod, ()) if one.end > since]

    def _metrics(self, now: float) -> Metrics:
        if self.held is None and self._sound is not None:
            return Metrics.OK
        since = now if self._sound is None else self._sound
        return Metrics.LOST if now - since > self.durations.lost else Metrics.HOLD

    def _found(
        self,
        tuning: Tuning | None,
        facts: Facts,
        scene: Scene,
        standing: Standing,
        load: Load | None,
        diagnosis: Diagnosis | None,
        now: float,
    ) -> Found:
        """What looking for a better setting came to; it is asked at most once an evaluation."""
        if facts.rules.all_pinned:
            return Found.PINNED
        looking = standing.state in (State.OBSERVING, State.PROPOSED, State.SETTLED)
        sound = self.held is None and load is not None and diagnosis is not None
        settled = standing.state is State.SETTLED and standing.until is not None
        if settled and now < (standing.until or 0.0):
            return Found.UNDECIDED
        due = now - self._agreement.at >= self.durations.evaluation
        if looking and sound and due and scene.stable is Stable.SETTLED:
            assert load is not None
            assert diagnosis is not None
            self._agreement.note(self._chosen(tuning, facts, scene, load, diagnosis), now)
        choice = self._agreement.confirmed(self.durations)
        if isinstance(choice, Rest):
            return FOUND.get(choice.reason, Found.UNDECIDED)
        if choice is None:
            return Found.UNDECIDED
        trial = tuning.trial if tuning else None
        same = trial is not None and _near(knobs_of(trial.to), choice.knobs)
        return Found.SAME if same else Found.OTHER

    def _chosen(
        self,
        tuning: Tuning | None,
        facts: Facts,
        scene: Scene,
        load: Load,
        diagnosis: Diagnosis,
    ) -> Proposal | Rest:
        if self._first_latency is None:
            self._first_latency = load.latency or None
        stored = kept(self._of(scene.pods))
        server = facts.server_at(facts.knobs)
        self.posterior = fit(stored, server, self.prior, self.durations)
        history = tuning.history if tuning else []
        lost = rejected(history, load_of(load))
        rules = replace(
            facts.rules,
            rejected=tuple((one, load.fingerprint) for one in lost),
            first_latency=self._first_latency,
        )
        return choose(
            server,
            self.posterior,
            load,
            diagnosis,
            facts.knobs,
            facts.plan_at,
            objective=facts.objective,
            rules=rules,
        )

    def _trial(
        self, tuning: Tuning | None, facts: Facts, scene: Scene, standing: Standing
    ) -> Trial | None:
        """All that a verdict rests on; None where there is no trial that serves."""
        known = tuning.trial if tuning else None
        if standing.state not in HELD or known is None or scene.trial_pod is None:
            return None
        server = facts.server_at(facts.knobs)
        stable = self._of(scene.pods if not scene.in_place else self._seen.keys())
        if self.posterior is None:
            self.posterior = fit(kept(stable), server, self.prior, self.durations)
        if self.posterior is None or scene.trial_ready is None:
            return None
        knobs = knobs_of(known.to)
        return Trial(
            candidate=Side(facts.server_at(knobs), knobs, self._of([scene.trial_pod])),
            stable=Side(server, facts.knobs, stable),
            ready=scene.trial_ready,
            posterior=self.posterior,
            objective=facts.objective,
            promise=promise_of(known),
            in_place=scene.in_place,
        )

    def _candidate(self, scene: Scene) -> Candidate:
        if scene.candidate is not Candidate.READY or scene.trial_pod is None:
            return scene.candidate
        last = self._of([scene.trial_pod])[-STUCK:]
        hangs = len(last) == STUCK and all(one.running > 0 and not one.steps for one in last)
        return Candidate.HUNG if hangs else Candidate.READY

    def _judged(
        self,
        verdict: Judgement | None,
        facts: Facts,
        scene: Scene,
        standing: Standing,
        now: float,
    ) -> Judged:
        """Of a trial, the judge's word; of what was promoted, whether its objective is broken that
        was not before."""
        if verdict is not None:
            return JUDGED.get(verdict.verdict, Judged.NONE)
        if standing.state is not State.VERIFYING or facts.objective is None:
            return Judged.NONE
        since = max(standing.since, now - self.durations.broken)
        if now - standing.since < self.durations.broken:
            return Judged.NONE
        load = measured(self._of(scene.pods, since))
        before = self._before
        late = load is not None and _late(load, facts.objective, LATE)
        as_before = before is not None and _late(before, facts.objective, 1.0)
        return Judged.BAD if late and not as_before else Judged.NONE

    def _drifted(
        self,
        tuning: Tuning | None,
        facts: Facts,
        scene: Scene,
        standing: Standing,
        now: float,
    ) -> LoadSeen:
        if standing.state is not State.SETTLED or tuning is None or self.held is not None:
            return LoadSeen.SAME
        known = tuning.load
        load = measured(self._of(scene.pods, now - self.durations.drift))
        if known is not None and load is not None and not alike(known, load_of(load)):
            return LoadSeen.DRIFTED
        lately = measured(self._of(scene.pods, now - self.durations.broken))
        broken = (
            facts.objective is not None
            and lately is not None
            and _late(lately, facts.objective, LATE)
        )
        return LoadSeen.BROKEN if broken else LoadSeen.SAME

    def _news(
        self,
        facts: Facts,
        scene: Scene,
        load: Load | None,
        verdict: Judgement | None,
        now: float,
    ) -> News:
        choice = self._agreement.choice
        proposal = None
        if isinstance(choice, Proposal) and load is not None:
            seen = self._of(scene.pods)
            proposal = proposal_of(choice, setting_of(facts.knobs), load, self.posterior, seen, now)
        return News(
            proposal=proposal,
            load=load_of(load) if load is not None else None,
            placement="InPlace" if scene.in_place else "Surge",
            pod=scene.trial_pod,
            measured=measurement_of(verdict, self.durations),
            detail=verdict.reason if verdict is not None else "",
        )


def _circumstances(scene: Scene, count: Tally) -> Circumstances:
    return Circumstances(
        mode=scene.desired.mode,
        describable=scene.describable,
        inconclusive=count.inconclusive,
        scalings=scene.scalings,
        settled_since=scene.settled_since,
        starts=count.starts,
        starts_allowed=scene.starts_allowed,
        window=scene.window,
        permit=scene.permit,
    )


def _agree(one: Proposal | Rest | None, other: Proposal | Rest) -> bool:
    if isinstance(one, Proposal) and isinstance(other, Proposal):
        return _near(one.knobs, other.knobs)
    if isinstance(one, Rest) and isinstance(other, Rest):
        return FOUND.get(one.reason) is FOUND.get(other.reason)
    return False


def _near(one: Knobs, other: Knobs) -> bool:
    """Whether two settings differ by no more than noise moves a choice."""
    caps = sorted((one.cap, other.cap))
    rest = replace(one, max_num_seqs=1, max_num_active_seqs=None)
    same = rest == replace(other, max_num_seqs=1, max_num_active_seqs=None)
    return same and caps[1] <= NEAR * caps[0]


def _late(load: Load, objective: Objective, margin: float) -> bool:
    """Whether surely more is late than may be, ``margin`` times."""
    allowed = margin * (1.0 - objective.share)
    return any(
        late is not None and late.low > allowed for late in (load.late_gaps, load.late_first_tokens)
    )
