"""Tuning of a running server's flags from its own metrics: what it may do, when and how far."""

from __future__ import annotations

from typing import Literal

from . import rules
from .base import ResourceModel, validations
from .fields import field, required
from .patterns import CRON_SCHEDULE, TIME_ZONE


class Window(ResourceModel):
    """When trials may begin."""

    schedule: str = required(
        "When the window opens: minute, hour, day of the month, month and day of the week, as in a "
        'CronJob, in numbers: "0 2 * * *" is two o\'clock each night.',
        max_length=100,
        pattern=CRON_SCHEDULE,
    )
    duration_minutes: int = required("How many minutes it stays open.", ge=1, le=10_080)
    time_zone: str | None = field(
        "Name of the time zone that the schedule is told in, as Europe/Berlin; UTC by default.",
        max_length=64,
        pattern=TIME_ZONE,
    )


class SequenceBounds(ResourceModel):
    """Bounds of max-num-seqs, and of max-num-active-seqs where that is what is tuned."""

    min: int | None = field("The fewest.", ge=1, le=16_384)
    max: int | None = field("The most.", ge=1, le=16_384)


class TokenBounds(ResourceModel):
    """Bounds of max-num-batched-tokens."""

    min: int | None = field("The fewest.", ge=16, le=1_048_576)
    max: int | None = field("The most.", ge=16, le=1_048_576)


class UtilizationBounds(ResourceModel):
    """Bounds of gpu-memory-utilization."""

    min: float | None = field(
        "The least.", ge=0.05, le=0.99, schema=validations(rules.BOUND_IS_A_FRACTION)
    )
    max: float | None = field(
        "The most.", ge=0.05, le=0.99, schema=validations(rules.BOUND_IS_A_FRACTION)
    )


class Bounds(ResourceModel):
    """How far tuning may go. What memory and the engine allow bounds it as well."""

    max_num_seqs: SequenceBounds | None = field(
        "Of max-num-seqs, and of max-num-active-seqs where that is what is tuned.",
        schema=validations(rules.BOUNDS_ARE_ORDERED),
    )
    max_num_batched_tokens: TokenBounds | None = field(
        "Of max-num-batched-tokens.",
        schema=validations(rules.BOUNDS_ARE_ORDERED),
    )
    gpu_memory_utilization: UtilizationBounds | None = field(
        "Of gpu-memory-utilization.",
        schema=validations(rules.BOUNDS_ARE_ORDERED),
    )


class Autotune(ResourceModel):
    """Tuning of a running server's flags from its own metrics. What spec.engine pins stays."""

    mode: Literal["Disabled", "Recommend", "Auto"] | None = field(
        "Disabled (default). Recommend: what would be changed is told in the status, and no pod is "
        "touched. Auto: it is tried on one pod first, and taken over where that proves better."
    )
    disruption: Literal["Forbid", "Allow"] | None = field(
        "Forbid (default): tuning never takes a ready pod away, so a trial needs a free GPU. "
        "Allow: where none is free, one replica less serves while a pod starts; a server of one "
        "replica is then down for that long."
    )
    max_trials_per_day: int | None = field(
        "How many trials may begin within 24 hours; 2 by default. What a trial proves is taken "
        "over by restarting every replica, which is part of it.",
        ge=0,
        le=48,
    )
    window: Window | None = field("When trials may begin; at any time by default.")
    bounds: Bounds | None = field(
        "How far tuning may go.", schema=validations(rules.TUNED_BATCH_HOLDS_SEQUENCES)
    )
