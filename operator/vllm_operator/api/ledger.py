"""What tuning remembers of a server, in ``status.tuning``: where it is, and its last ten trials.

Shares are of a thousand samples, so that the resource has few fractions. Nothing in here moves by
itself: a figure is written when tuning goes from one state to another, and stays.
"""

from __future__ import annotations

from typing import Final, Literal

from .base import ResourceModel
from .conditions import MESSAGE_LIMIT
from .fields import field, required

HISTORY: Final = 10
"""Trials that are kept."""

CURVE_POINTS: Final = 16

DATE_TIME: Final = {"format": "date-time"}
SHARE: Final = {"minimum": 0, "maximum": 1000}
COUNT: Final = {"minimum": 0}

TuningState = Literal[
    "Disabled",
    "Observing",
    "Settled",
    "Proposed",
    "Starting",
    "Warming",
    "Judging",
    "Promoting",
    "Verifying",
    "RollingBack",
    "CoolingDown",
    "Suspended",
]

Verdict = Literal["Promoted", "RolledBack", "Inconclusive", "Interrupted", "NoRoom"]


class TunedSetting(ResourceModel):
    """The tuned flags of an engine."""

    max_num_seqs: int = required("Value of --max-num-seqs.", schema={"minimum": 1})
    max_num_active_seqs: int | None = field(
        "Value of --max-num-active-seqs, where it is set.", schema={"minimum": 1}
    )
    max_num_batched_tokens: int = required(
        "Value of --max-num-batched-tokens.", schema={"minimum": 1}
    )
    gpu_memory_utilization: float = required(
        "Value of --gpu-memory-utilization.", schema={"minimum": 0, "maximum": 1}
    )


class Figures(ResourceModel):
    """A figure with the range that it is expected or measured in."""

    low: int = required("Lower end.", schema=COUNT)
    expected: int = required("Best estimate.", schema=COUNT)
    high: int = required("Upper end.", schema=COUNT)


class TuningLoad(ResourceModel):
    """The load of one replica that was looked at."""

    requests_per_minute: int = required("Requests that arrive in a minute.", schema=COUNT)
    prompt_tokens: int = required("Mean length of a prompt in tokens.", schema=COUNT)
    output_tokens: int = required("Mean length of an output in tokens.", schema=COUNT)
    cached_per_mille: int = required(
        "Prompt tokens of a thousand that the prefix cache held.", schema=SHARE
    )


class TuningEvidence(ResourceModel):
    """What was seen before a setting was proposed."""

    intervals: int = required("Intervals that were usable.", schema=COUNT)
    requests: int = required("Requests that finished in them.", schema=COUNT)
    batch_low: int = required("Requests in a step: one interval in twenty has fewer.", schema=COUNT)
    batch_high: int = required("Requests in a step: one interval in twenty has more.", schema=COUNT)
    deviation_per_mille: int = required(
        "Standard deviation of the predicted duration of a step, of a thousand parts of it.",
        schema=COUNT,
    )


class TuningShares(ResourceModel):
    """What a setting gives."""

    output_tokens_per_second: Figures | None = field("Output tokens a second of one replica.")
    inter_token_latency_per_mille: Figures | None = field(
        "Gaps between tokens, of a thousand, that keep the objective."
    )
    time_to_first_token_per_mille: Figures | None = field(
        "Requests, of a thousand, whose first token keeps the objective."
    )


class TuningMeasurement(TuningShares):
    """What a trial gave."""

    minutes: int = required("Minutes that were judged.", schema=COUNT)
    requests: int = required("Requests that the trial's pod finished.", schema=COUNT)
    slower_per_mille: int | None = field(
        "How much longer its steps take at equal load, in thousandths; below 0 it is faster.",
        schema={"minimum": -1000},
    )
    plus_minus_per_mille: int | None = field(
        "How far off that may be, in thousandths.", schema=COUNT
    )


class TuningTrial(ResourceModel):
    """A setting that is proposed, and from its start on the trial of it."""

    proposed_at: str = required("When it was proposed.", schema=DATE_TIME)
    trigger: str = required("What made tuning look for another setting.", max_length=128)
    diagnosis: str = required("What bounds the server.", max_length=64)
    source: TunedSetting = required("The setting in force.", alias="from")
    to: TunedSetting = required("The setting that is proposed.")
    load: TuningLoad | None = field("The load that it is proposed for.")
    evidence: TuningEvidence | None = field("What it rests on.")
    predicted: TuningShares | None = field("What it is expected to give.")
    revision: str | None = field("ControllerRevision of the trial.", max_length=253)
    parent: str | None = field(
        "ControllerRevision of the plan that it is compared with.", max_length=253
    )
    placement: Literal["Surge", "InPlace"] | None = field(
        "Whether its pod runs beside the others or in the place of one."
    )
    started_at: str | None = field("When the trial began.", schema=DATE_TIME)
    pod: str | None = field("Its pod, once that was ready.", max_length=253)
    replaced: bool | None = field("Whether its pod was lost once and made again.")


class TuningEntry(TuningTrial):
    """A trial that ended."""

    ended_at: str = required("When it ended.", schema=DATE_TIME)
    measured: TuningMeasurement | None = field("What it gave.")
    verdict: Verdict = required(
        "How it ended. Interrupted and NoRoom say nothing of the setting; NoRoom did not start."
    )
    reason: str = required("Why, in words.", max_length=MESSAGE_LIMIT)


class TuningDiagnosis(ResourceModel):
    """What bounds a server."""

    bound: str = required("Its name.", max_length=64)
    message: str = required("What was seen.", max_length=MESSAGE_LIMIT)


class CurvePoint(ResourceModel):
    """How long tokens take with so many requests at once."""

    requests: int = required("Requests that one engine has at once.", schema={"minimum": 1})
    microseconds: Figures = required(
        "Between two tokens; nine in ten are expected below the upper end, and above the lower."
    )


class TuningCurve(ResourceModel):
    """What was learned of how long a replica's tokens take, at the load that was seen."""

    setting: TunedSetting = required("The setting that it was learned with.")
    percentile: int | None = field(
        "Of all gaps between tokens, those that are at most so long: the objective's share of "
        "them. The mean gap where this is missing."
    )
    batch_low: int = required("Requests in a step: one interval in twenty has fewer.", schema=COUNT)
    batch_high: int = required("Requests in a step: one interval in twenty has more.", schema=COUNT)
    points: list[CurvePoint] = field(
        "By requests at once, ascending.",
        default=[],
        max_length=CURVE_POINTS,
        schema={"x-kubernetes-list-type": "atomic"},
    )


class Tuning(ResourceModel):
    """Where tuning is with a server."""

    state: TuningState = required("What tuning does.")
    since: str = required("When that began.", schema=DATE_TIME)
    until: str | None = field("When time alone ends it, if it does.", schema=DATE_TIME)
    reason: str = required("The reason in the condition Tuned.", max_length=64)
    load: TuningLoad | None = field(
        "The load for which nothing better was found; another one is looked at again."
    )
    diagnosis: TuningDiagnosis | None = field(
        "What bounds the server, while a setting is proposed or nothing better is known."
    )
    found: str | None = field(
        "What looking for a better setting came to.", max_length=MESSAGE_LIMIT
    )
    curve: TuningCurve | None = field("What was learned when it was last looked for.")
    trial: TuningTrial | None = field("What is proposed or tried; none else.")
    history: list[TuningEntry] = field(
        f"The last {HISTORY} trials, the newest first.",
        default=[],
        max_length=HISTORY,
        schema={"x-kubernetes-list-type": "atomic"},
    )
