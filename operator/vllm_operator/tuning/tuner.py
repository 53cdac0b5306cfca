"""One server's tuner: what it saw, what it proposes, and how a trial stands.

Operator and simulator drive the same one: ``learn`` takes what was scraped, ``look`` what is seen
of the pods, and says what should exist. Whatever it keeps in memory can be read from Prometheus
again; what may not be lost is in the status that ``look`` is given and gives back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vllm_operator.api.ledger import Tuning

from .agreement import Agreement
from .choice import REQUESTS, choose
from .curve import UNSEEN, Posterior, Prior, fit
from .diagnosis import Bound, Diagnosis, diagnose
from .durations import Durations
from .edges import HELD
from .entries import curve_of, diagnosis_of, load_of, measurement_of, promise_of, proposal_of
from .evidence import kept
from .judge import Judgement, Verdict, judge
from .knobs import Knobs, Objective
from .leave import Circumstances, leave, stays_one_pod
from .ledger import (
    ALIKE,
    News,
    Tally,
    alike,
    knobs_of,
    rejected,
    remember,
    setting_of,
    standing_of,
    tally,
)
from .load import Load, measured
from .machine import transition, wants
from .proposals import Proposal, Rest
from .quality import Held
from .samples import Reading
from .scene import Facts, Look, Scene
from .seen import Seen
from .standing import (
    Candidate,
    Judged,
    Leave,
    Observed,
    Stable,
    Standing,
    State,
    Wants,
)
from .standing import Load as LoadSeen
from .standing import Proposal as Found
from .trial import Side, Trial, compared

LATE: Final = 1.2
"""Times the share that may be late, from which on a promoted setting does not keep its promise."""

JUDGED: Final = {
    Verdict.GOOD: Judged.GOOD,
    Verdict.BAD: Judged.BAD,
    Verdict.INCONCLUSIVE: Judged.INCONCLUSIVE,
}


@dataclass(slots=True)
class Tuner:
    """Of one server. ``prior`` is what is believed of servers of the kind."""

    durations: Durations = field(default_factory=Durations)
    prior: Prior = UNSEEN
    posterior: Posterior | None = None
    """Of the setting in force, at the last look."""
    seen: Seen = field(default_factory=Seen)
    _knobs: Knobs | None = None
    _served: frozenset[str] = frozenset()
    """Pods that had the setting in force: a trial in the place of one is compared with them."""
    _agreement: Agreement = field(default_factory=Agreement)
    _first_latency: float | None = None
    _before: tuple[Load, ...] = ()
    """The stable pods' load before the trial that was promoted, and in it."""
    _replicas: int | None = None
    """At the last look."""
    _scalings: tuple[float, ...] = ()
    """When, in the last day, replicas changed by more than a trial stands."""
    _judgement: Judgement | None = None
    """The last one of the trial that is, or was promoted."""

    @property
    def held(self) -> Held | None:
        """Why nothing is learned."""
        return self.seen.held

    def learn(self, readings: Iterable[Reading], held: Held | None, now: float) -> None:
        """Takes what was read; ``held`` is why it may not be learned from."""
        self.seen.learn(readings, held, now)

    def look(self, tuning: Tuning | None, facts: Facts, scene: Scene, now: float) -> Look:
        """What should exist now, and what the status says of it."""
        standing = standing_of(tuning, scene.desired, now)
        self._tidy(facts, scene, standing, now)
        count = tally(tuning, scene.revisions, scene.kind, now, self.durations)
        recent = self.seen.of(scene.pods, now - self.durations.window)
        load = measured(recent, kv_tokens=facts.pod_kv_tokens)
        diagnosis = diagnose(recent, facts.knobs, facts.objective)
        self._note_scaling(scene.replicas, now)
        may = leave(_circumstances(scene, count, self._scalings), now, self.durations)
        lately = self._lately(facts, scene, standing, now)
        idle = self._idle(tuning, facts, standing, load, lately)
        pause = self.durations.evaluation
        if standing.state is State.PROPOSED and may is not Leave.GRANTED:
            pause = self.durations.window
        due = not idle and now - self._agreement.at >= pause
        found = self._found(tuning, facts, scene, standing, load, diagnosis, now, due=due)
        trial = self._trial(tuning, facts, scene, standing)
        verdict = None
        if trial is not None and standing.state is State.JUDGING:
            verdict = self._judgement = judge(trial, now, self.durations)
        elif standing.state not in (State.PROMOTING, State.VERIFYING):
            self._judgement = None
        observed = Observed(
            change=scene.change,
            metrics=self.seen.metrics(now, self.durations),
            proposal=found,
            candidate=self._candidate(scene),
            warm=trial is not None and bool(compared(trial, self.durations).candidate),
            judged=self._judged(verdict, facts, scene, standing, now),
            stable=scene.stable,
            leave=may,
            load=self._drifted(tuning, facts, standing, load, lately),
            record=count.record,
            quiet=load is not None and load.rate * 4 * self.durations.interval < 1.0,
            start_seconds=scene.start_seconds,
            rollbacks=count.rollbacks,
        )
        step = transition(standing, scene.desired, observed, now, self.durations)
        news = News()
        if step.edge is not None:
            news = self._news(facts, scene, load, diagnosis, now)
        if step.edge is not None and load is not None:
            if step.standing.state is State.STARTING:
                self._before = (load,)
            elif step.standing.state is State.PROMOTING:
                # What the trial's pod has eased was no better before it.
                self._before = (*self._before, load)
        return Look(
            remember(tuning, step, now, news),
            step,
            self.seen.held,
            diagnosis,
            self._agreement.choice,
            verdict,
        )

    def _note_scaling(self, replicas: int, now: float) -> None:
        """An operator that starts anew counts anew: a trial that is ended by a scaling costs a
        start of the day, and nothing else."""
        before, self._replicas = self._replicas, replicas
        if before is not None and not stays_one_pod(before, replicas):
            recent = [one for one in self._scalings if now - one < self.durations.day]
            self._scalings = (*recent, now)

    def _tidy(self, facts: Facts, scene: Scene, standing: Standing, now: float) -> None:
        """Forgets what is of another setting.

        The curve outlives a change of the knobs, as what is believed before anything is seen.
        """
        if self._knobs is not None and self._knobs != facts.knobs:
            self._agreement = Agreement()
            if self.posterior is not None:
                self.prior, self.posterior = self.posterior.prior(), None
            self._served = frozenset()
            promoted = wants(standing.state) is Wants.PROMOTED
            self.seen.keep_only(scene.pods if promoted else frozenset())
        self._knobs = facts.knobs
        self.seen.thin(scene.pods, now - self.durations.history)
        self._served = (self._served & self.seen.pods.keys()) | scene.pods

    def _found(
        self,
        tuning: Tuning | None,
        facts: Facts,
        scene: Scene,
        standing: Standing,
        load: Load | None,
        diagnosis: Diagnosis | None,
        now: float,
        *,
        due: bool,
    ) -> Found:
        """What looking for a better setting came to; it is asked again where that is ``due``."""
        if facts.rules.all_pinned:
            return Found.PINNED
        looking = standing.state in (State.OBSERVING, State.PROPOSED, State.SETTLED)
        sound = self.seen.held is None and load is not None and diagnosis is not None
        settled = standing.state is State.SETTLED and standing.until is not None
        if settled and now < (standing.until or 0.0):
            return Found.UNDECIDED
        if looking and sound and due and scene.stable is Stable.SETTLED:
            assert load is not None
            assert diagnosis is not None
            self._agreement.note(self._chosen(tuning, facts, scene, load, diagnosis), now)
        trial = tuning.trial if tuning else None
        return self._agreement.found(knobs_of(trial.to) if trial else None, self.durations)

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
        server = facts.server(facts.knobs)
        stored = kept(self.seen.of(scene.pods))
        requests = sum(one.first_tokens for one in stored)
        if requests >= REQUESTS or diagnosis.holds(Bound.KV_CACHE):
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
            durations=self.durations,
            requests=requests,
        )

    def _trial(
        self, tuning: Tuning | None, facts: Facts, scene: Scene, standing: Standing
    ) -> Trial | None:
        """All that a verdict rests on; None where there is no trial that serves."""
        known = tuning.trial if tuning else None
        if standing.state not in HELD or known is None or scene.trial_pod is None:
            return None
        server = facts.server(facts.knobs)
        stable = self.seen.of(self._served if scene.in_place else scene.pods)
        if self.posterior is None:
            self.posterior = fit(kept(stable), server, self.prior, self.durations)
        if self.posterior is None or scene.trial_ready is None:
            return None
        knobs = knobs_of(known.to)
        return Trial(
            candidate=Side(facts.server(knobs), knobs, self.seen.of([scene.trial_pod])),
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
        return Candidate.HUNG if self.seen.hangs(scene.trial_pod) else Candidate.READY

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
        load = measured(self.seen.of(scene.pods, since))
        late = load is not None and _late(load, facts.objective, LATE)
        as_before = any(_late(one, facts.objective, 1.0) for one in self._before)
        return Judged.BAD if late and not as_before else Judged.NONE

    def _lately(self, facts: Facts, scene: Scene, standing: Standing, now: float) -> Load | None:
        """What a settled server's objective is held to."""
        if standing.state is not State.SETTLED or facts.objective is None:
            return None
        return measured(self.seen.of(scene.pods, now - self.durations.broken))

    def _idle(
        self,
        tuning: Tuning | None,
        facts: Facts,
        standing: Standing,
        load: Load | None,
        lately: Load | None,
    ) -> bool:
        """Whether a settled server is far from what it would look again for: a fit costs
        hundreds of times what this does."""
        if standing.state is not State.SETTLED or tuning is None or tuning.load is None:
            return False
        near = load is not None and alike(tuning.load, load_of(load), ALIKE / 2)
        return near and not (lately and facts.objective and _may_be_late(lately, facts.objective))

    def _drifted(
        self,
        tuning: Tuning | None,
        facts: Facts,
        standing: Standing,
        load: Load | None,
        lately: Load | None,
    ) -> LoadSeen:
        if standing.state is not State.SETTLED or tuning is None or self.seen.held is not None:
            return LoadSeen.SAME
        known = tuning.load
        if known is not None and load is not None and not alike(known, load_of(load)):
            return LoadSeen.DRIFTED
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
        diagnosis: Diagnosis | None,
        now: float,
    ) -> News:
        """What the status keeps of an edge; computed where one is taken."""
        choice, verdict = self._agreement.choice, self._judgement
        seen = self.seen.of(scene.pods)
        proposal, most = None, facts.knobs.cap
        if isinstance(choice, Proposal) and load is not None:
            proposal = proposal_of(choice, setting_of(facts.knobs), load, self.posterior, seen, now)
            most = max(most, choice.knobs.cap)
        curve = None
        if self.posterior is not None and load is not None:
            curve = curve_of(facts, self.posterior, load, seen, most)
        return News(
            proposal=proposal,
            load=load_of(load) if load is not None else None,
            diagnosis=None if diagnosis is None else diagnosis_of(diagnosis),
            found="" if choice is None else choice.message,
            curve=curve,
            placement="InPlace" if scene.displaces else "Surge",
            pod=scene.trial_pod,
            measured=measurement_of(verdict, self.durations),
            detail=verdict.reason if verdict is not None else "",
        )


def _circumstances(scene: Scene, count: Tally, scalings: Sequence[float]) -> Circumstances:
    return Circumstances(
        mode=scene.desired.mode,
        describable=scene.describable,
        inconclusive=count.inconclusive,
        scalings=scalings,
        settled_since=scene.settled_since,
        starts=count.starts,
        starts_allowed=scene.starts_allowed,
        window=scene.window,
        permit=scene.permit,
    )


def _late(load: Load, objective: Objective, margin: float) -> bool:
    """Whether surely more is late than may be, ``margin`` times."""
    allowed = margin * (1.0 - objective.share)
    return any(
        late is not None and late.low > allowed for late in (load.late_gaps, load.late_first_tokens)
    )


def _may_be_late(load: Load, objective: Objective) -> bool:
    """Whether more may be late than may be."""
    return any(
        late is not None and late.high > 1.0 - objective.share
        for late in (load.late_gaps, load.late_first_tokens)
    )
