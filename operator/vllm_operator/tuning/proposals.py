"""What looking for a better setting came to: one to try, or why none; and what the planner says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .diagnosis import Diagnosis
from .forecast import Forecast
from .knobs import Knobs


@dataclass(frozen=True, slots=True)
class Planned:
    """What the planner says of a setting."""

    kv_tokens: float | None
    """Tokens that the KV cache of one rank surely holds; None where it limits nothing."""
    ceiling: float
    """The largest utilization at which the engine surely starts and keeps running."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the planner does not take a setting."""

    message: str


PlanAt = Callable[[Knobs], Planned | Refused]


class Reason(StrEnum):
    """Why nothing is tried."""

    NO_EVIDENCE = "NoEvidence"
    BROKEN = "Broken"
    PINNED = "Pinned"
    CAP_NOT_BINDING = "CapNotBinding"
    NOTHING_TO_GAIN = "NothingToGain"
    NOT_WORTH_A_START = "NotWorthAStart"
    SCALE_OUT = "ScaleOut"
    UNEVEN = "Uneven"


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is tried."""

    reason: Reason
    message: str
    diagnosis: Diagnosis
    now: Forecast | None = None
    replicas: int | None = None
    """How many would keep the objective; of ``ScaleOut``, where 64 would."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A setting to try."""

    knobs: Knobs
    diagnosis: Diagnosis
    now: Forecast
    predicted: Forecast
    cold: bool
    """Whether its start has to compile."""
    message: str
