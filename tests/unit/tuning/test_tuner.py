"""The tuner of one server: from what was scraped to what should exist, over hours."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from support.served import llama
from support.stepping import Engine, Pod, Traffic, quiet
from vllm_operator.api.ledger import Tuning
from vllm_operator.tuning import tuner
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.curve import Posterior, fit
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.intervals import Between, Interval
from vllm_operator.tuning.judge import Judgement, Verdict
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.ledger import TrialRevision
from vllm_operator.tuning.proposals import Planned, Proposal, Reason, Rest
from vllm_operator.tuning.quality import Held, Hold
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.scene import Facts, Look, Scene
from vllm_operator.tuning.standing import Candidate, Desired, Mode, Stable, State, Wants
from vllm_operator.tuning.tuner import Tuner

SECONDS = 15.0
BEGINNING = 1.7e9
START_SECONDS = 60.0
SMALL = Knobs(16, 8192, 0.9)


@dataclass
class Server:
    """Two replicas whose requests always wait, or come at a rate, and a Deployment that does what
    is wanted."""

    mode: Mode = Mode.AUTO
    late: Callable[[Server], float] | None = None
    """Share of gaps that are too long, where it is not what the engines count."""
    replicas: Callable[[float], int] | None = None
    """Of the specification, after so many seconds; two where nothing is said."""
    alone: bool = False
    """Whether there is one replica, in whose place a trial runs."""
    slower: float = 1.0
    """Of a trial's steps."""
    knobs: Knobs = SMALL
    rate: float | None = None
    now: float = BEGINNING
    tuning: Tuning | None = None
    tried: Knobs | None = None
    trial: Pod | None = None
    ready: float = 0.0
    states: list[str] = field(default_factory=list)
    revisions: list[TrialRevision] = field(default_factory=list)
    held: Held | None = None
    generator: random.Random = field(default_factory=lambda: random.Random(7))
    tuner: Tuner = field(default_factory=Tuner)

    def __post_init__(self) -> None:
        self.pods = [self.pod(name, self.knobs) for name in ("a", "b")[: 1 if self.alone else 2]]

    def pod(self, name: str, knobs: Knobs, slower: float = 1.0) -> Pod:
        traffic = Traffic(self.rate, objective=0.060)
        return Pod(name, self.generator, traffic, Engine(), cap=knobs.cap, slower=slower)

    def facts(self) -> Facts:
        return Facts(
            knobs=self.knobs,
            server_at=lambda knobs: llama(knobs.cap, knobs.max_num_batched_tokens),
            plan_at=lambda knobs: Planned(400_000.0, knobs.gpu_memory_utilization),
            rules=Rules(),
            objective=Objective(inter_token_latency=0.060),
        )

    def scene(self) -> Scene:
        candidate = Candidate.ABSENT
        if self.tried is not None:
            candidate = Candidate.READY if self.trial else Candidate.RUNNING
        return Scene(
            desired=Desired(self.mode),
            pods=frozenset(pod.name for pod in self.serving()),
            stable=Stable.SETTLED,
            trial_pod=self.trial.name if self.trial else None,
            trial_ready=self.ready if self.trial else None,
            candidate=candidate,
            in_place=self.alone and self.tried is not None,
            displaces=self.alone and self.tried is not None,
            start_seconds=600.0,
            revisions=self.revisions,
            replicas=2 if self.replicas is None else self.replicas(self.now - BEGINNING),
            settled_since=BEGINNING if self.tried is None else None,
            starts_allowed=2,
        )

    def serving(self) -> list[Pod]:
        """Pods of the setting in force."""
        return [] if self.alone and self.tried is not None else self.pods

    def scraped(self) -> None:
        """An interval passes, and what the engines counted is read."""
        self.now += SECONDS
        if self.tried is not None and self.trial is None and self.now >= self.ready:
            self.trial = self.pod("trial", self.tried, self.slower)
        pods = [*self.serving(), *([self.trial] if self.trial else [])]
        told = []
        for pod in pods:
            seen = pod.interval(self.now, SECONDS, quiet)
            # Of a tick the generator shows who is left after those that finished in it.
            seen = replace(seen, running=seen.decoding)
            if self.late is not None:
                share = self.late(self)
                seen = replace(seen, slow_gaps=Between(share * seen.gaps, share * seen.gaps))
            told.append(Reading(pod.name, (seen,), self.now))
        self.tuner.learn([] if self.held else told, self.held, self.now)

    def looked(self) -> Look:
        """A visit, and what it wants is made so."""
        look = self.tuner.look(self.tuning, self.facts(), self.scene(), self.now)
        self.tuning = look.tuning
        state = look.step.standing.state
        if look.step.edge is not None:
            self.states.append(state.value)
        if look.wants is Wants.TRIAL and self.tried is None:
            self.tried, self.ready = look.knobs, self.now + START_SECONDS
            self.revisions.append(TrialRevision("trial-1", self.now, "", promoted=False))
            assert self.tuning is not None
            assert self.tuning.trial is not None
            named = self.tuning.trial.model_copy(update={"revision": "trial-1"})
            self.tuning = self.tuning.model_copy(update={"trial": named})
        elif look.wants is Wants.PROMOTED and self.trial is not None:
            assert self.tried is not None
            self.knobs = self.tried
            self.pods = [self.trial, self.pod("c", self.knobs)]
            self.trial = self.tried = None
        elif look.wants is Wants.STABLE and self.tried is not None:
            self.trial = self.tried = None
        return look

    def run(self, minutes: float, until: Callable[[], bool] = lambda: False) -> None:
        """So long, or until something holds."""
        end = self.now + 60 * minutes
        while self.now < end and not until():
            for _ in range(4):
                self.scraped()
            self.looked()

    def is_in(self, state: State) -> bool:
        return self.tuning is not None and self.tuning.state == state.value


def test_a_larger_cap_is_found_tried_promoted_and_verified_with_one_start() -> None:
    server = Server()
    server.run(240, until=lambda: "Verifying" in server.states and server.is_in(State.OBSERVING))
    assert (
        server.states
        == [
            *("Observing", "Proposed", "Starting", "Warming", "Judging", "Promoting", "Verifying"),
            "Observing",
        ][-len(server.states) :]
    )
    assert server.knobs.cap > SMALL.cap
    assert server.tuning is not None
    [entry] = server.tuning.history
    assert entry.verdict == "Promoted"
    assert entry.measured is not None


def test_a_proposal_comes_with_what_bounds_the_server_and_the_curve_that_was_learned() -> None:
    server = Server()
    server.run(60, until=lambda: server.is_in(State.PROPOSED))
    assert server.tuning is not None
    assert server.tuning.trial is not None
    assert server.tuning.diagnosis is not None
    assert server.tuning.diagnosis.bound == server.tuning.trial.diagnosis
    assert "max-num-seqs 16 ->" in (server.tuning.found or "")
    curve = server.tuning.curve
    assert curve is not None
    assert (curve.setting.max_num_seqs, curve.percentile) == (16, 95)
    requests = [one.requests for one in curve.points]
    assert requests == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    gaps = [one.microseconds for one in curve.points]
    assert all(one.low <= one.expected <= one.high for one in gaps)
    assert [one.expected for one in gaps] == sorted(one.expected for one in gaps)
    seen = [one for pod in ("a", "b") for one in server.tuner.seen.of([pod])]
    mean = sum(one.latency * one.gaps for one in seen) / sum(one.gaps for one in seen)
    assert 0.8 * mean < gaps[requests.index(16)].expected / 1e6 < 2.0 * mean


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Intervals of each fit that is made."""
    made: list[int] = []

    def noted(intervals: Sequence[Interval], *of: Any) -> Posterior | None:
        made.append(len(intervals))
        return fit(intervals, *of)

    monkeypatch.setattr("vllm_operator.tuning.tuner.fit", noted)
    return made


def test_a_settled_server_is_fitted_again_only_where_its_load_is_another_one(
    fits: list[int],
) -> None:
    server = Server(mode=Mode.RECOMMEND, knobs=Knobs(256, 8192, 0.9), rate=2.0)
    server.run(60, until=lambda: server.is_in(State.SETTLED))
    assert server.is_in(State.SETTLED)
    fits.clear()
    server.run(60)
    assert (server.is_in(State.SETTLED), fits) == (True, [])
    for pod in server.pods:
        pod.traffic = replace(pod.traffic, rate=4.0)
    server.run(30, until=lambda: bool(fits))
    assert fits


def test_a_proposal_that_is_not_tried_is_looked_at_again_twice_an_hour(fits: list[int]) -> None:
    server = Server(mode=Mode.RECOMMEND)
    server.run(60, until=lambda: server.is_in(State.PROPOSED))
    assert server.is_in(State.PROPOSED)
    fits.clear()
    server.run(60)
    assert 1 <= len(fits) <= 2


def test_too_few_requests_to_learn_from_are_not_fitted(fits: list[int]) -> None:
    server = Server(mode=Mode.RECOMMEND, rate=0.02)
    server.run(40)
    assert (server.is_in(State.OBSERVING), fits) == (True, [])


def test_the_curve_stays_as_it_was_until_a_setting_is_looked_for_again() -> None:
    server = Server()
    server.run(60, until=lambda: server.is_in(State.PROPOSED))
    assert server.tuning is not None
    curve = server.tuning.curve
    server.run(10, until=lambda: server.is_in(State.WARMING))
    assert server.is_in(State.WARMING)
    assert server.tuning.curve == curve
    assert (server.tuning.diagnosis, server.tuning.found) == (None, None)


@pytest.mark.parametrize(("share", "end"), [(0.3, "Observing"), (0.0, "RollingBack")])
def test_a_promoted_setting_is_held_to_what_was_before_the_trials_pod_took_its_share(
    monkeypatch: pytest.MonkeyPatch, share: float, end: str
) -> None:
    def late(server: Server) -> float:
        if server.trial is not None:
            return 0.0
        return share if server.knobs == SMALL else 0.3

    def choose(*given: Any, **named: Any) -> Proposal | Rest:
        load = replace(given[2], late_gaps=Between(0, 0))
        return real(*given[:2], load, *given[3:], **named)

    real = tuner.choose
    monkeypatch.setattr(tuner, "choose", choose)
    monkeypatch.setattr(tuner, "judge", lambda *given: Judgement(Verdict.GOOD, "better"))
    server = Server(late=late)
    server.run(
        240, until=lambda: "Verifying" in server.states and not server.is_in(State.VERIFYING)
    )
    assert server.states[-1] == end


def test_a_trial_in_the_place_of_the_only_replica_is_compared_with_what_that_did_before() -> None:
    server = Server(alone=True)
    server.run(300, until=lambda: "Promoting" in server.states or "RollingBack" in server.states)
    assert server.states[-1] == "Promoting"


@pytest.mark.parametrize(("alone", "placement"), [(True, "InPlace"), (False, "Surge")])
def test_a_trial_says_whether_it_has_another_pod_s_place(alone: bool, placement: str) -> None:
    server = Server(alone=alone)
    server.run(90, until=lambda: server.is_in(State.JUDGING))
    assert server.tuning is not None
    assert server.tuning.trial is not None
    assert server.tuning.trial.placement == placement


def test_a_trial_in_the_place_of_the_only_replica_is_not_compared_with_itself() -> None:
    server = Server(alone=True, slower=1.3)
    server.run(300, until=lambda: "Promoting" in server.states or "RollingBack" in server.states)
    assert server.tuning is not None
    assert [entry.verdict for entry in server.tuning.history] == ["RolledBack"]


def test_a_trial_that_steps_half_as_fast_is_taken_back_and_nothing_else_changes() -> None:
    server = Server(slower=2.0)
    server.run(240, until=lambda: server.is_in(State.COOLING_DOWN))
    assert server.states[-2:] == ["RollingBack", "CoolingDown"]
    assert server.knobs == SMALL
    assert server.tuning is not None
    assert server.tuning.history[0].verdict == "RolledBack"


def test_where_only_a_recommendation_is_asked_for_no_trial_begins() -> None:
    server = Server(mode=Mode.RECOMMEND)
    server.run(120)
    assert server.is_in(State.PROPOSED)
    assert server.revisions == []
    assert server.tuning is not None
    assert server.tuning.trial is not None
    assert server.tuning.trial.to.max_num_seqs > SMALL.max_num_seqs


@pytest.mark.parametrize(
    ("more", "minutes", "begins"),
    [
        pytest.param(6, 2, False, id="that would end a trial"),
        pytest.param(3, 2, True, id="that a trial stands"),
        pytest.param(6, 60, True, id="seldom"),
    ],
)
def test_no_trial_begins_while_an_autoscaler_changes_replicas_too_often(
    more: int, minutes: int, begins: bool
) -> None:
    # Two and more in turn; thirteen such changes in a day are too many.
    server = Server(replicas=lambda passed: more if passed // (60 * minutes) % 2 else 2)
    server.run(50, until=lambda: bool(server.revisions))
    assert "Proposed" in server.states
    assert bool(server.revisions) is begins


def test_a_trial_whose_metrics_are_lost_ends_without_a_verdict_on_the_setting() -> None:
    server = Server()
    server.run(240, until=lambda: server.is_in(State.JUDGING) or server.is_in(State.WARMING))
    server.held = Held(Hold.UNREACHABLE, "Prometheus does not answer.")
    server.run(Durations().lost / 60 - 2)
    assert server.tried is not None
    server.run(10)
    assert server.tuning is not None
    assert server.tuning.history[0].verdict == "Inconclusive"
    assert server.knobs == SMALL


def test_without_evidence_nothing_is_proposed() -> None:
    server = Server(held=Held(Hold.STALE, "The newest sample is too old."))
    server.run(120)
    assert server.is_in(State.OBSERVING) or server.tuning is None
    assert "Proposed" not in server.states


@pytest.mark.parametrize("knobs", [Knobs(16, 8192, 0.9), Knobs(24, 8192, 0.9)])
def test_what_was_seen_of_another_setting_is_not_taken_for_this_one_s(knobs: Knobs) -> None:
    server = Server()
    server.run(25)
    posterior = server.tuner.posterior
    server.knobs = knobs
    server.scraped()
    server.looked()
    if knobs == SMALL:
        assert server.tuner.posterior is posterior
    else:
        assert server.tuner.posterior is None
        assert posterior is not None
        assert server.tuner.prior == posterior.prior()


def test_a_server_that_is_asked_seldom_has_enough_requests_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = []

    def choose(*given: Any, **named: Any) -> Rest:
        counted.append((given[2].requests, named["requests"]))
        return Rest(Reason.NO_EVIDENCE, "not yet", given[3])

    monkeypatch.setattr(tuner, "choose", choose)
    Server().run(90)
    of_the_window, of_all = counted[-1]
    assert of_all > 2 * of_the_window
