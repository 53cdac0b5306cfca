"""What tuning remembers: read from the status and folded into it. Pure.

Trial revisions tell how often and when something was tried, the status how it ended; where the
status is lost, a trial without a promotion counts as one that was taken back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from vllm_operator.api.conditions import timestamp, truncate
from vllm_operator.api.ledger import (
    HISTORY,
    TunedSetting,
    Tuning,
    TuningCurve,
    TuningDiagnosis,
    TuningEntry,
    TuningLoad,
    TuningMeasurement,
    TuningTrial,
    Verdict,
)

from .durations import Durations
from .edges import HELD, PROMOTED
from .knobs import Knobs
from .machine import Step, beginning
from .standing import Desired, Record, Standing, State

RECORD_LENGTH: Final = 5
FAILING: Final = 3
ALIKE: Final = 0.25
"""By how much the rate and the lengths of one load may differ."""
ALIKE_CACHED: Final = 100
"""By how many prompt tokens of a thousand what the prefix cache holds may differ."""


@dataclass(frozen=True, slots=True)
class TrialRevision:
    """What a trial's ControllerRevision says of it."""

    name: str
    started: float
    """Seconds since the epoch."""
    kind: str
    """Of model, image, GPU, split, workload, objective and the annotation that asks to tune again:
    what is said of one kind says nothing of another."""
    promoted: bool
    """Whether a plan that came from it was put in force."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the trials of a server come to."""

    starts: int
    """Begun in the last day, of whatever kind; those that found no room began none."""
    rollbacks: int
    """Of this kind, taken back since the last that was promoted."""
    inconclusive: int
    """Of this kind, up to the last one in a row, that told nothing."""
    record: Record


@dataclass(frozen=True, slots=True)
class News:
    """What a visit found that the status should keep, where a transition uses it."""

    proposal: TuningTrial | None = None
    """Used where a setting is proposed."""
    load: TuningLoad | None = None
    """Used where nothing better was found."""
    diagnosis: TuningDiagnosis | None = None
    """These three in both cases."""
    found: str = ""
    curve: TuningCurve | None = None
    revision: str | None = None
    """These three where a trial begins."""
    parent: str | None = None
    placement: Literal["Surge", "InPlace"] | None = None
    pod: str | None = None
    """Used where its pod is ready."""
    measured: TuningMeasurement | None = None
    """These two where a trial ends."""
    detail: str = ""
    """What the judge says, or the pod's own words."""


def time_of(seconds: float) -> str:
    """A time as the status has it, in whole seconds."""
    return timestamp(datetime.fromtimestamp(math.floor(seconds), UTC))


def seconds_of(time: str) -> float:
    """A time of the status in seconds since the epoch. Raises ValueError."""
    read = datetime.fromisoformat(time)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def setting_of(knobs: Knobs) -> TunedSetting:
    """Knobs as the status has them."""
    return TunedSetting(
        max_num_seqs=knobs.max_num_seqs,
        max_num_active_seqs=knobs.max_num_active_seqs,
        max_num_batched_tokens=knobs.max_num_batched_tokens,
        gpu_memory_utilization=knobs.gpu_memory_utilization,
    )


def knobs_of(setting: TunedSetting) -> Knobs:
    """The setting of the status as knobs."""
    return Knobs(
        max_num_seqs=setting.max_num_seqs,
        max_num_active_seqs=setting.max_num_active_seqs,
        max_num_batched_tokens=setting.max_num_batched_tokens,
        gpu_memory_utilization=setting.gpu_memory_utilization,
    )


def standing_of(tuning: Tuning | None, desired: Desired, now: float) -> Standing:
    """Where tuning is, as the status says; from the beginning where that says nothing to use."""
    if tuning is None:
        return beginning(desired, now)
    try:
        since = seconds_of(tuning.since)
        until = None if tuning.until is None else seconds_of(tuning.until)
    except ValueError:
        return beginning(desired, now)
    replaced = tuning.trial is not None and tuning.trial.replaced is True
    return Standing(State(tuning.state), since, until, tuning.reason, replaced)


def remember(tuning: Tuning | None, step: Step, now: float, news: News) -> Tuning | None:
    """The status after a visit: the same object where no edge was taken.

    A server for which tuning was never asked has none.
    """
    after, edge = step.standing, step.edge
    if tuning is None and after.state is State.DISABLED:
        return None
    if tuning is not None and edge is None:
        return tuning
    history = list(tuning.history) if tuning else []
    trial = tuning.trial if tuning else None
    if edge is not None and edge.verdict is not None and trial is not None:
        reason = "; ".join(filter(None, (edge.sentence, news.detail)))
        history = ended(history, trial, now, edge.verdict, reason, news.measured)
    looked = after.state in (State.SETTLED, State.PROPOSED)
    curve = tuning.curve if tuning else None
    return Tuning(
        state=after.state.value,
        since=time_of(after.since),
        until=None if after.until is None else time_of(math.ceil(after.until)),
        reason=after.reason,
        load=news.load if after.state is State.SETTLED else None,
        diagnosis=news.diagnosis if looked else None,
        found=truncate(news.found) or None if looked else None,
        curve=((news.curve if looked else None) or curve)
        if after.state is not State.DISABLED
        else None,
        trial=_trial(trial, after, now, news, begins=edge is not None and trial is not None
                     and edge.source is State.PROPOSED),
        history=history,
    )  # fmt: skip


def _trial(
    trial: TuningTrial | None, after: Standing, now: float, news: News, *, begins: bool
) -> TuningTrial | None:
    match after.state:
        case State.PROPOSED:
            return news.proposal or trial
        case State.STARTING if begins and trial is not None:
            return trial.model_copy(
                update={
                    "revision": news.revision,
                    "parent": news.parent,
                    "started_at": time_of(now),
                }
            )
        case State.STARTING if trial is not None:
            return trial.model_copy(update={"pod": None, "replaced": True})
        case State.WARMING if trial is not None:
            # Only now: for want of room its pod may have taken another one's place meanwhile.
            return trial.model_copy(update={"pod": news.pod, "placement": news.placement})
        case State.JUDGING | State.PROMOTING | State.VERIFYING | State.ROLLING_BACK:
            return trial  # a rollback's parent is the plan to restore
    return None


def ended(
    history: Sequence[TuningEntry],
    trial: TuningTrial,
    now: float,
    verdict: Verdict,
    reason: str,
    measured: TuningMeasurement | None = None,
) -> list[TuningEntry]:
    """The history with a trial that ended ``now``, the newest first, ten of them.

    A rollback after a promotion is the verdict of the same trial.
    """
    entry = TuningEntry.model_validate(
        {
            **trial.to_json_object(),
            "endedAt": time_of(now),
            "verdict": verdict,
            "reason": truncate(reason),
            "measured": None if measured is None else measured.to_json_object(),
        }
    )
    return [entry, *history][:HISTORY]


def tally(
    tuning: Tuning | None,
    revisions: Sequence[TrialRevision],
    kind: str,
    now: float,
    durations: Durations | None = None,
) -> Tally:
    """What the trials come to, without a verdict on one that has not ended.

    Only what came after the last promotion counts against the server.
    """
    durations = durations or Durations()
    history = tuning.history if tuning else []
    running = None
    if tuning and tuning.trial and tuning.state in {state.value for state in (*HELD, *PROMOTED)}:
        running = tuning.trial.revision
    known = {entry.revision: entry.verdict for entry in history}
    newest_first = sorted(revisions, key=lambda one: one.started, reverse=True)

    def verdict(one: TrialRevision) -> Verdict:
        return known.get(one.name) or ("Promoted" if one.promoted else "RolledBack")

    starts = [one for one in revisions if verdict(one) != "NoRoom"]
    said = [verdict(one) for one in newest_first if one.kind == kind and one.name != running]
    said = [one for one in said if one not in ("Interrupted", "NoRoom")]
    since_promotion = said[: said.index("Promoted")] if "Promoted" in said else said
    told = [one != "Inconclusive" for one in said]
    failing = since_promotion[:RECORD_LENGTH].count("RolledBack") >= FAILING
    return Tally(
        starts=sum(1 for one in starts if now - one.started < durations.day),
        rollbacks=since_promotion.count("RolledBack"),
        inconclusive=told.index(True) if True in told else len(told),
        record=Record.FAILING if failing else Record.CLEAN,
    )


def alike(one: TuningLoad, other: TuningLoad, within: float = ALIKE) -> bool:
    """Whether what is known of one load holds of the other: both differ by such a share at most."""
    pairs = (
        (one.requests_per_minute, other.requests_per_minute),
        (one.prompt_tokens, other.prompt_tokens),
        (one.output_tokens, other.output_tokens),
    )
    near = all(abs(a - b) <= within * max(a, b) for a, b in pairs)
    cached = abs(one.cached_per_mille - other.cached_per_mille)
    return near and cached <= ALIKE_CACHED * within / ALIKE


def rejected(history: Sequence[TuningEntry], load: TuningLoad) -> tuple[Knobs, ...]:
    """Settings that were taken back at such a load."""
    return tuple(
        knobs_of(entry.to)
        for entry in history
        if entry.verdict == "RolledBack" and (entry.load is None or alike(entry.load, load))
    )
