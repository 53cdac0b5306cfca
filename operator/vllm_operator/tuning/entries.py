"""From what was computed to what the status has of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vllm_operator.api.ledger import (
    Figures,
    TunedSetting,
    TuningEvidence,
    TuningLoad,
    TuningMeasurement,
    TuningShares,
    TuningTrial,
)

from .choice import Proposal
from .curve import Posterior
from .durations import Durations
from .forecast import Forecast
from .intervals import Interval
from .judge import Judgement
from .ledger import setting_of, time_of
from .load import Load
from .trial import Promise

PER_MILLE = 1000


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
    batches = sorted(one.batch for one in seen if one.steps)
    evidence = None
    if posterior is not None and batches:
        evidence = TuningEvidence(
            intervals=posterior.intervals,
            requests=round(sum(one.finished for one in seen)),
            batch_low=round(batches[len(batches) // 20]),
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
