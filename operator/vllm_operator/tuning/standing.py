"""What the state machine of tuning reads: where it is, what is wanted, and what is seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class State(StrEnum):
    """Where tuning is with a server; each says what should exist (``machine.wants``)."""

    DISABLED = "Disabled"
    """It is not asked for."""
    OBSERVING = "Observing"
    """Evidence is gathered."""
    SETTLED = "Settled"
    """Nothing better was found for this load."""
    PROPOSED = "Proposed"
    """A better setting was found, and is not tried yet."""
    STARTING = "Starting"
    """The trial's pod is on its way."""
    WARMING = "Warming"
    """It serves, and is not judged yet."""
    JUDGING = "Judging"
    """It is compared with the others."""
    PROMOTING = "Promoting"
    """Its plan is in force, and the other pods are replaced."""
    VERIFYING = "Verifying"
    """All pods have its plan, and are watched."""
    ROLLING_BACK = "RollingBack"
    """The trial ended, and the plan before it is restored."""
    COOLING_DOWN = "CoolingDown"
    """Nothing is tried for a while."""
    SUSPENDED = "Suspended"
    """Trials failed too often; a person must look."""


class Mode(StrEnum):
    """``spec.autotune.mode``."""

    DISABLED = "Disabled"
    RECOMMEND = "Recommend"
    AUTO = "Auto"


class Halt(StrEnum):
    """Why a server is not to have a trial now, whatever its mode."""

    NONE = "None"
    PAUSED = "Paused"
    STOPPED = "Stopped"
    """``spec.replicas`` is 0."""
    DELETED = "Deleted"


class Change(StrEnum):
    """What happened to the server since the trial, or the proposal, was made."""

    NONE = "None"
    REPLANNED = "Replanned"
    """Another plan is to be in force."""
    SCALED = "Scaled"
    """The replicas changed by more than a held rollout stands."""
    DISTURBED = "Disturbed"
    """Somebody changed the Deployment: the trial's template is not the newest one any more."""
    CROWDED = "Crowded"
    """A stable pod waits for the room that the trial's pod has."""


class Metrics(StrEnum):
    """Whether there is evidence."""

    OK = "Ok"
    HOLD = "Hold"
    """Not now: nothing is decided on what is missing."""
    LOST = "Lost"
    """Not for longer than ``Durations.lost``."""


class Proposal(StrEnum):
    """What looks for a better setting found: always two of them, ``Durations.hysteresis`` apart,
    that agree."""

    UNDECIDED = "Undecided"
    """There is too little evidence, or they do not agree."""
    SETTLED = "Settled"
    """Nothing better."""
    CAP_NOT_BINDING = "CapNotBinding"
    """No limit binds at this load."""
    PINNED = "Pinned"
    """Every flag is pinned. Needs no evidence."""
    SCALE_OUT = "ScaleOut"
    """No flag helps; more replicas would."""
    SAME = "Same"
    """The setting that is proposed already."""
    OTHER = "Other"
    """A setting that is not proposed yet."""


class Candidate(StrEnum):
    """The trial's pod. While a setting is promoted and verified: the worst pod of its plan."""

    ABSENT = "Absent"
    PENDING = "Pending"
    NO_ROOM = "NoRoom"
    """Something kept it from running for longer than the surge timeout."""
    RUNNING = "Running"
    """It loads; it is not a pod that was ready before."""
    READY = "Ready"
    """It serves with the flags and the KV cache that were planned."""
    OTHERWISE = "Otherwise"
    """It serves with other ones."""
    UNREADY = "Unready"
    """It was ready and is not."""
    CRASHED = "Crashed"
    """Its container ended."""
    OUT_OF_MEMORY = "OutOfMemory"
    HUNG = "Hung"
    """Requests run, and none moves."""


class Judged(StrEnum):
    """What the judge says; of a promoted setting, what its watch says."""

    NONE = "None"
    GOOD = "Good"
    BAD = "Bad"
    INCONCLUSIVE = "Inconclusive"


class Stable(StrEnum):
    """The pods that are not the trial's; of a promoted setting, its rollout."""

    SETTLED = "Settled"
    """All are there and ready, and none of another plan is."""
    ROLLING = "Rolling"
    SHORT = "Short"
    """One is missing or not ready."""
    FAILED = "Failed"
    """The rollout was given up."""


class Leave(StrEnum):
    """Whether a trial may begin, or the first thing that forbids it (``leave.leave``)."""

    GRANTED = "Granted"
    RECOMMEND_ONLY = "RecommendOnly"
    """Of this server tuning only speaks, whatever its mode."""
    INCONCLUSIVE = "Inconclusive"
    """The last two trials told nothing."""
    SCALED_TOO_OFTEN = "ScaledTooOften"
    BUDGET_SPENT = "BudgetSpent"
    OUTSIDE_WINDOW = "OutsideWindow"
    UNSETTLED = "Unsettled"
    """The replicas were not all ready and the same for long enough."""
    OTHERS_FIRST = "OthersFirst"
    """The operator's trials are all taken."""


class Load(StrEnum):
    """The load beside the one for which nothing better was found."""

    SAME = "Same"
    DRIFTED = "Drifted"
    """Another one for ``Durations.drift``."""
    BROKEN = "Broken"
    """The objective is not kept for ``Durations.broken``."""


class Record(StrEnum):
    """What the last trials of this kind of plan say (``ledger.Tally``)."""

    CLEAN = "Clean"
    FAILING = "Failing"
    """Three of the last five were taken back."""


class Wants(Enum):
    """Which plan should be in force, and whether a trial should be held."""

    STABLE = "the plan in force, or, where the state names a trial, that trial's parent"
    TRIAL = "the same, and one held pod of the trial's revision"
    PROMOTED = "the trial's revision"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where tuning is. Times are seconds since the epoch."""

    state: State
    since: float
    until: float | None = None
    """When time alone ends the state."""
    reason: str = ""
    """As the condition ``Tuned`` has it."""
    replaced: bool = False
    """Whether the trial's pod was lost once, through no fault of its own, and made again."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What the specification asks for."""

    mode: Mode
    halt: Halt = Halt.NONE


@dataclass(frozen=True, slots=True)
class Observed:
    """What a visit saw. Each default is the one from which nothing begins."""

    change: Change = Change.NONE
    metrics: Metrics = Metrics.HOLD
    proposal: Proposal = Proposal.UNDECIDED
    candidate: Candidate = Candidate.ABSENT
    warm: bool = False
    judged: Judged = Judged.NONE
    stable: Stable = Stable.SHORT
    leave: Leave = Leave.RECOMMEND_ONLY
    load: Load = Load.SAME
    record: Record = Record.CLEAN
    quiet: bool = False
    """Whether less than one request arrives in four intervals."""
    start_seconds: float = 0.0
    """What a trial's pod may take to serve: the surge timeout and a cold start's budget."""
    rollbacks: int = 0
    """Trials of this kind of plan that were taken back, one after the other, up to the last."""
