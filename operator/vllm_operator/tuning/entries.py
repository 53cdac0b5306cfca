"""From what was computed to what the status has of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vllm_operator.api.conditions import truncate
from vllm_operator.api.ledger import (
    CURVE_POINTS,
    CurvePoint,
    Figures,
    TunedSetting,
    TuningCurve,
    TuningDiagnosis,
    TuningEvidence,
    TuningLoad,
    TuningMeasurement,
    TuningShares,
    TuningTrial,
)

from .candidates import TRUSTED
from .curve import Posterior
from .diagnosis import Diagnosis
from .durations import Durations
from .forecast import Forecast, Z
from .intervals import Interval
from .judge import Judgement
from .ledger import setting_of, time_of
from .load import Load
from .proposals import Proposal
from .scene import Facts
from .states import PROMPTS, State, States, Steps
from .trial import Promise

PER_MILLE = 1000
MICROSECONDS = 1_000_000
HALVINGS = 20
"""Of a range of times within which a share of gaps is looked for."""


def load_of(load: Load) -> TuningLoad:
    """The load of one replica."""
    full = load.full_prompt
    return TuningLoad(
        requests_per_minute=round(60 * load.rate),
        prompt_tokens=round(full),
        output_tokens=round(load.output),
        cached_per_mille=_mille(load.cached / full if full else 0.0),
    )


def proposal_of(
    choice: Proposal,
    source: TunedSetting,
    load: Load,
    posterior: Posterior | None,
    seen: Sequence[Interval],
    now: float,
) -> TuningTrial:
    """A setting that is proposed ``now``."""
    batch_low = _batch_low(seen)
    evidence = None
    if posterior is not None and batch_low is not None:
        evidence = TuningEvidence(
            intervals=posterior.intervals,
            requests=round(sum(one.finished for one in seen)),
            batch_low=batch_low,
            batch_high=round(posterior.batch),
            deviation_per_mille=round(PER_MILLE * choice.predicted.deviation),
        )
    return TuningTrial.model_validate(
        {
            "proposedAt": time_of(now),
            "trigger": choice.message[:128],
            "diagnosis": choice.diagnosis.bound.value,
            "from": source.to_json_object(),
            "to": setting_of(choice.knobs).to_json_object(),
            "load": load_of(load).to_json_object(),
            "evidence": evidence.to_json_object() if evidence else None,
            "predicted": shares_of(choice.predicted).to_json_object(),
        }
    )


def diagnosis_of(found: Diagnosis) -> TuningDiagnosis:
    """The first line that holds."""
    return TuningDiagnosis(bound=found.bound.value, message=truncate(found.first.message))


def curve_of(
    facts: Facts, posterior: Posterior, load: Load, seen: Sequence[Interval], most: int
) -> TuningCurve:
    """The learned curve at the setting in force, up to ``most`` requests at once, and as far as the
    fit may be followed.

    Of the gaps between tokens the share that the objective asks for, or their mean; with the range
    of ``Z`` deviations to either side.
    """
    gap = facts.objective and facts.objective.inter_token_latency
    share = facts.objective.share if facts.objective and gap else None
    steps = Steps(facts.server(facts.knobs), posterior, load)
    states = States(steps, facts.knobs.max_num_batched_tokens)
    most = max(most, round(TRUSTED * posterior.batch))
    powers = [2**power for power in range(most.bit_length())]
    between = [3 * power // 2 for power in powers if power > 1]
    first, *more = sorted({one for one in (*powers, *between, most) if one <= most})
    at = [first, *more[1 - CURVE_POINTS :]]
    return TuningCurve(
        setting=setting_of(facts.knobs),
        percentile=None if share is None else round(100 * share),
        batch_low=_batch_low(seen) or 0,
        batch_high=round(posterior.batch),
        points=[CurvePoint(requests=one, microseconds=_gap(states.at(one), share)) for one in at],
    )


def _gap(state: State, share: float | None) -> Figures:
    low, expected, high = (round(MICROSECONDS * _gap_at(state, share, z)) for z in (-Z, 0.0, Z))
    return Figures(low=min(low, expected), expected=expected, high=max(expected, high))


def _gap_at(state: State, share: float | None, z: float) -> float:
    """Seconds, ``z`` deviations above what is expected."""
    if share is None:
        return state.latency * math.exp(z * state.deviation)
    slowest = max(state.alone_seconds, state.mixed_seconds, state.row.seconds(PROMPTS[-1]))
    low, high = math.log(state.alone_seconds) - 3.0, math.log(slowest) + 3.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if state.gaps_within(math.exp(middle), z) < share:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _batch_low(seen: Sequence[Interval]) -> int | None:
    """Requests in a step, of which one interval in twenty has fewer."""
    batches = sorted(one.batch for one in seen if one.steps)
    return round(batches[len(batches) // 20]) if batches else None


def shares_of(found: Forecast) -> TuningShares:
    """What a forecast says."""
    return TuningShares(
        output_tokens_per_second=Figures(
            low=math.floor(found.low),
            expected=round(found.tokens_per_second),
            high=math.ceil(found.high),
        ),
        inter_token_latency_per_mille=_between(
            found.inter_token_share_low, found.inter_token_share
        ),
        time_to_first_token_per_mille=_between(
            found.time_to_first_share_low, found.time_to_first_share
        ),
    )


def promise_of(trial: TuningTrial) -> Promise:
    """The shares that may be slow, as they were predicted."""
    said = trial.predicted or TuningShares()
    return Promise(
        _slow(said.inter_token_latency_per_mille), _slow(said.time_to_first_token_per_mille)
    )


def measurement_of(found: Judgement | None, durations: Durations) -> TuningMeasurement | None:
    """What a judgement measured; None where there was nothing yet."""
    if found is None or not found.intervals:
        return None
    gaps, first = found.slow_gaps, found.slow_first_tokens
    known = found.slower is not None and found.half_width is not None
    return TuningMeasurement(
        minutes=round(found.intervals * durations.interval / 60),
        requests=round(found.finished),
        slower_per_mille=max(-PER_MILLE, round(PER_MILLE * math.expm1(found.slower or 0.0)))
        if known
        else None,
        plus_minus_per_mille=round(PER_MILLE * (found.half_width or 0.0)) if known else None,
        inter_token_latency_per_mille=None if gaps is None else _within(gaps.low, gaps.high),
        time_to_first_token_per_mille=None if first is None else _within(first.low, first.high),
    )


def _within(slow_low: float, slow_high: float) -> Figures:
    low, high = _mille(1.0 - slow_high), _mille(1.0 - slow_low)
    return Figures(low=low, expected=round((low + high) / 2), high=high)


def _between(low: float | None, expected: float | None) -> Figures | None:
    if expected is None:
        return None
    least = expected if low is None else min(low, expected)
    return Figures(low=_mille(least), expected=_mille(expected), high=PER_MILLE)


def _slow(share: Figures | None) -> float | None:
    return None if share is None else 1.0 - share.expected / PER_MILLE


def _mille(share: float) -> int:
    return min(PER_MILLE, max(0, round(PER_MILLE * share)))
