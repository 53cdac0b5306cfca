"""Tuning in sentences: for the condition, events and ``vllm-operator explain``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vllm_operator.api.conditions import ConditionDraft, ConditionStatus, truncate
from vllm_operator.api.counting import counted
from vllm_operator.api.ledger import (
    Figures,
    TunedSetting,
    Tuning,
    TuningEntry,
    TuningEvidence,
    TuningMeasurement,
    TuningShares,
    TuningTrial,
    Verdict,
)

from .edges import FOUND, LEAVES
from .ledger import seconds_of

ENDS: Final[dict[Verdict, str]] = {
    "Promoted": "was promoted",
    "RolledBack": "was taken back",
    "Inconclusive": "told nothing",
    "Interrupted": "was interrupted",
    "NoRoom": "found no room",
}


WAITS: Final = dict(LEAVES.values()) | {"Proposed": "a better setting was found"}
"""Of a proposal, by reason; several waits are told alike."""

STATUSES: Final[dict[str, ConditionStatus]] = {
    **dict.fromkeys(("Settled", "CapNotBinding", "Pinned", "Promoted"), "True"),
    **dict.fromkeys(("Observing", "InCanary", "Interrupted"), "Unknown"),
}
"""Of the condition ``Tuned`` by its reason; False for all others."""

HELD: Final = {
    "Starting": "a pod with another setting starts",
    "Warming": "a pod with another setting serves and warms up",
    "Judging": "a pod with another setting is compared with the others",
    "Promoting": "the other replicas get the setting that proved better",
    "Verifying": "all replicas have the setting that proved better, and are watched",
}


def tuned(tuning: Tuning, window: str = "") -> ConditionDraft:
    """The condition ``Tuned``: a function of the status and the specification alone, so that it
    moves only with them.

    ``window`` is what is wrong with when trials may begin; it comes first unless one runs.
    """
    reason, said = tuning.reason, "; ".join(_message(tuning))
    if window and tuning.state not in HELD and tuning.state != "RollingBack":
        reason, said = "WindowUnreadable", f"{window}; until then no trial begins; {said}"
    return ConditionDraft(
        type="Tuned", status=STATUSES.get(reason, "False"), reason=reason, message=truncate(said)
    )


def _message(tuning: Tuning) -> Iterator[str]:
    trial = tuning.trial
    last = tuning.history[0] if tuning.history else None
    match tuning.state:
        case "Proposed":
            yield WAITS.get(tuning.reason, WAITS["Proposed"])
            if trial:
                yield proposed(trial)
        case "Settled":
            found = {kind.value: sentence for kind, sentence in FOUND.items()}
            said = found.get(tuning.reason, "every flag that could be tuned is pinned")
            if tuning.found and tuning.reason != "Pinned":
                said = tuning.found
            yield said
            if tuning.diagnosis and tuning.diagnosis.message not in said:
                yield tuning.diagnosis.message
        case "Starting" | "Warming" | "Judging" | "Promoting" | "Verifying" as state:
            yield HELD[state]
            if trial:
                yield proposed(trial)
        case "RollingBack":
            yield "the plan before the trial is restored"
            if last:
                yield told(last)
        case "CoolingDown":
            yield f"nothing is tried until {tuning.until}"
            if last:
                yield told(last)
        case "Suspended":
            yield "three of the last five trials were taken back"
            if last:
                yield told(last)
        case _:
            yield "evidence is gathered"
            if tuning.reason == "Promoted" and last:
                yield told(last)


def change(source: TunedSetting, to: TunedSetting) -> str:
    """The flags that differ, as ``max-num-seqs 256 -> 96``."""
    flags = (
        ("max-num-seqs", source.max_num_seqs, to.max_num_seqs),
        ("max-num-active-seqs", source.max_num_active_seqs, to.max_num_active_seqs),
        ("max-num-batched-tokens", source.max_num_batched_tokens, to.max_num_batched_tokens),
        ("gpu-memory-utilization", source.gpu_memory_utilization, to.gpu_memory_utilization),
    )
    changed = [f"{flag} {_set(old)} -> {_set(new)}" for flag, old, new in flags if old != new]
    return ", ".join(changed) or "nothing"


def proposed(trial: TuningTrial) -> str:
    """What is proposed, why, what it should give, and what that rests on."""
    parts = [f"{change(trial.source, trial.to)}, as {trial.diagnosis} bounds the server"]
    if trial.predicted:
        parts.append(f"predicted {shares(trial.predicted)}")
    if trial.evidence:
        parts.append(f"from {evidence(trial.evidence)}")
    return "; ".join(parts)


def told(entry: TuningEntry) -> str:
    """A trial that ended: how, after how long, why, and what was measured beside the prediction."""
    return "; ".join(told_in_lines(entry))


def told_in_lines(entry: TuningEntry) -> list[str]:
    """The same, a line for each part."""
    began = entry.started_at or entry.proposed_at
    minutes = max(round((seconds_of(entry.ended_at) - seconds_of(began)) / 60), 0)
    lasted = counted(minutes, "minute")
    parts = [
        f"{change(entry.source, entry.to)} {ENDS[entry.verdict]} after {lasted}: {entry.reason}"
    ]
    if entry.measured:
        parts.append(f"measured {measurement(entry.measured)}")
    if entry.predicted and entry.measured:
        parts.append(f"predicted {shares(entry.predicted)}")
    return parts


def evidence(found: TuningEvidence) -> str:
    """What a proposal rests on."""
    return (
        f"{counted(found.intervals, 'interval')} with {counted(found.requests, 'request')}, "
        f"{found.batch_low} to "
        f"{found.batch_high} of them in a step, durations of steps known to "
        f"{_percent(found.deviation_per_mille)}"
    )


def shares(found: TuningShares) -> str:
    """What a setting gives, or should give."""
    return ", ".join(_shares(found)) or "nothing"


def measurement(found: TuningMeasurement) -> str:
    """What a trial gave."""
    over, of = counted(found.minutes, "minute"), counted(found.requests, "request")
    parts = [f"over {over} with {of}"]
    if found.slower_per_mille is not None:
        slower = found.slower_per_mille
        off = "" if found.plus_minus_per_mille is None else (
            f" (give or take {_percent(found.plus_minus_per_mille)})"
        )  # fmt: skip
        word = "slower" if slower >= 0 else "faster"
        parts.append(f"steps {_percent(abs(slower))} {word} at equal load{off}")
    return ", ".join([*parts, *_shares(found)])


def _shares(found: TuningShares) -> Iterator[str]:
    if found.output_tokens_per_second:
        yield f"{_range(found.output_tokens_per_second)} output tokens a second"
    if found.inter_token_latency_per_mille:
        yield f"{_kept(found.inter_token_latency_per_mille)} of gaps between tokens in time"
    if found.time_to_first_token_per_mille:
        yield f"{_kept(found.time_to_first_token_per_mille)} of first tokens in time"


def _range(figures: Figures) -> str:
    return f"{figures.expected} ({figures.low} to {figures.high})"


def _kept(figures: Figures) -> str:
    low, high = _percent(figures.low), _percent(figures.high)
    return f"{_percent(figures.expected)} ({low} to {high})"


def _percent(per_mille: int) -> str:
    return f"{per_mille / 10:g} %"


def _set(value: float | None) -> str:
    return "unset" if value is None else f"{value:g}"


WAITS_FOR: Final = {
    "Observing": "enough intervals with requests, and two looks that agree on what they find",
    "Settled": "another load, an objective that is not kept, or another plan",
    "Proposed": "a trial to begin, or a better proposal",
    "Starting": "the trial's pod, until it is ready with what was planned",
    "Warming": "requests on the trial's pod, until its cache is warm",
    "Judging": "a verdict",
    "Promoting": "the rollout to all replicas",
    "Verifying": "the new setting to keep what it promised for a while",
    "RollingBack": "the end of the trial's pod, and all replicas ready with the plan before",
    "CoolingDown": "time to pass",
    "Suspended": "another plan, or you",
}
"""What tuning goes on with, by state."""

ADVICE: Final = {
    "Observing": "wait; where it lasts, the condition MetricsAvailable says what is missing",
    "Settled": "nothing",
    "CapNotBinding": "nothing; fewer replicas might do",
    "Pinned": "remove a pin from spec.engine to have it tuned",
    "Promoted": "nothing",
    "ScaleOut": "raise spec.replicas",
    "Proposed": "pin it in spec.engine, or set spec.autotune.mode to Auto to have it tried",
    "OutsideWindow": "wait for spec.autotune.window, or change it",
    "WindowUnreadable": "write spec.autotune.window as the condition Tuned says",
    "BudgetSpent": "wait until a day after the last trials, or raise spec.autotune.maxTrialsPerDay",
    "OthersFirst": "wait, or raise tuning.maxConcurrentTrials in the operator's chart",
    "ScaledTooOften": "slow the autoscaler down, or pin what is proposed in spec.engine",
    "InCanary": "wait, or end it: set spec.autotune.mode to Recommend",
    "NoRoomForCanary": "free a GPU, or set spec.autotune.disruption to Allow",
    "RolledBack": "nothing: it is not tried again at such a load",
    "Inconclusive": "balance the load over the pods better; another value of the annotation "
    "vllm-operator.io/retune asks again",
    "Interrupted": "nothing",
    "CoolingDown": "wait",
    "Suspended": "read why the last trials were taken back, then ask again by another value of the "
    "annotation vllm-operator.io/retune",
    "NotDescribed": "nothing: it serves untuned",
    "Disabled": "set spec.autotune.mode to Recommend or Auto",
}
"""What a person can do, by the reason of the condition ``Tuned``."""


UNTIL: Final = {
    "Settled": "looked at again from {} on",
    "Proposed": "looked at again from {} on",
    **dict.fromkeys(("Starting", "Warming", "Judging"), "until {} at most"),
    **dict.fromkeys(("Verifying", "CoolingDown"), "until {}"),
}
"""What ``status.tuning.until`` is, by state."""


def waits_for(tuning: Tuning) -> str:
    """What tuning goes on with."""
    waits = WAITS_FOR.get(tuning.state, "")
    if tuning.state == "Proposed" and tuning.reason != "Proposed":
        waits = WAITS.get(tuning.reason, waits)
    until = UNTIL.get(tuning.state) if tuning.until else None
    return f"{waits}; {until.format(tuning.until)}" if until else waits


def advice(reason: str, mode: str) -> str:
    """What a person can do about the reason of the condition ``Tuned``."""
    if reason == "Proposed" and mode == "Auto":
        return "nothing: it is tried once all replicas have been ready for a while"
    return ADVICE.get(reason, "read the condition Tuned")
