"""One look at a server's samples: what it does, what bounds it, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllm_operator.api.ledger import Tuning, TuningCurve
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.choice import choose
from vllm_operator.tuning.curve import UNSEEN, Posterior, fit
from vllm_operator.tuning.diagnosis import Diagnosis, diagnose
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.entries import curve_of, load_of
from vllm_operator.tuning.evidence import kept
from vllm_operator.tuning.intervals import Interval
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.ledger import rejected
from vllm_operator.tuning.load import Load, measured
from vllm_operator.tuning.proposals import Proposal, Rest
from vllm_operator.tuning.quality import Held, Hold, held
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.scene import Facts

from .figures import Figures, figures_of


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose samples they are."""

    knobs: Knobs
    """The setting that all pods run with."""
    objective: Objective | None = None
    facts: Facts | None = None
    """What forecasts rest on; None where the performance model does not describe the server, or
    its pinned plan was not read."""
    tuning: Tuning | None = None
    """What the status says of tuning: what was tried and taken back is not proposed again."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of it."""

    figures: Figures | None
    """None where no interval was told."""
    held: Held | None
    """Why the samples are not learned from."""
    diagnosis: Diagnosis | None
    """What bounds the server; None where that cannot be said."""
    load: Load | None = None
    """What is asked of it; None where no request was answered."""
    choice: Proposal | Rest | None = None
    """The setting that would help, or why none is known; None without ``Subject.facts``."""
    curve: TuningCurve | None = None
    """How long tokens take by requests at once; None where too little was seen."""


def look(
    readings: Sequence[Reading],
    subject: Subject,
    durations: Durations,
    now: float,
    *,
    window: float | None = None,
    problem: str | None = None,
) -> Look:
    """What ``readings`` say at ``now``, seconds since the epoch.

    ``window`` is the seconds that figures and diagnosis speak of, else tuning's own; what is
    learned of the time of steps rests on all that was read. ``problem`` is what was in the way of
    reading.
    """
    since = now - (durations.window if window is None else window)
    recent = [one for some in readings for one in some.intervals if one.end > since]
    why = held(readings, now, durations)
    if problem is not None:
        why = Held(Hold.UNREACHABLE, f"Prometheus cannot be read: {problem}")
    figures = figures_of(recent)
    if not recent or (why is not None and why.reason is not Hold.TOO_LITTLE_TRAFFIC):
        return Look(figures, why, None)
    diagnosis = diagnose(recent, subject.knobs, subject.objective)
    facts = subject.facts
    load = measured(recent, kv_tokens=facts.pod_kv_tokens if facts else None)
    if why is not None or diagnosis is None or facts is None:
        return Look(figures, why, diagnosis, load)
    stored = kept(one for some in readings for one in some.intervals)
    server = facts.server_at(facts.knobs)
    posterior = fit(stored, server, UNSEEN, durations) if stored else None
    found = choose(
        server,
        posterior,
        load,
        diagnosis,
        facts.knobs,
        facts.plan_at,
        objective=facts.objective,
        rules=_rules(facts, load, subject.tuning),
        durations=durations,
        requests=sum(one.first_tokens for one in stored),
    )
    return Look(figures, why, diagnosis, load, found, _curve(facts, posterior, load, recent, found))


def _rules(facts: Facts, load: Load | None, tuning: Tuning | None) -> Rules:
    if load is None or tuning is None:
        return facts.rules
    lost = rejected(tuning.history, load_of(load))
    return replace(facts.rules, rejected=tuple((one, load.fingerprint) for one in lost))


def _curve(
    facts: Facts,
    posterior: Posterior | None,
    load: Load | None,
    recent: Sequence[Interval],
    found: Proposal | Rest,
) -> TuningCurve | None:
    if posterior is None or load is None:
        return None
    most = max(facts.knobs.cap, found.knobs.cap) if isinstance(found, Proposal) else facts.knobs.cap
    return curve_of(facts, posterior, load, recent, most)
