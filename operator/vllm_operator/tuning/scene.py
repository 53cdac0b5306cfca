"""What a visit tells the tuner of a server, and what the tuner answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vllm_operator.api.ledger import Tuning
from vllm_operator.sizing.performance.server import Server

from .candidates import Rules
from .diagnosis import Diagnosis
from .graphs import with_graphs
from .judge import Judgement
from .knobs import Knobs, Objective
from .ledger import TrialRevision, knobs_of
from .machine import Step
from .proposals import PlanAt, Proposal, Rest
from .quality import Held
from .standing import Candidate, Change, Desired, Stable, Wants
from .window import Window


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the plan in force, beside its metrics."""

    knobs: Knobs
    server_at: Callable[[Knobs], Server]
    """The server as shipped, with the limits of a setting."""
    plan_at: PlanAt
    rules: Rules
    """Without what was rejected: the status has that."""
    objective: Objective | None = None
    pod_kv_tokens: float | None = None
    """Tokens of one pod's KV cache, all ranks together."""

    def server(self, knobs: Knobs) -> Server:
        """As ``server_at``, with the CUDA graphs that ``--max-num-seqs`` asks for, however few
        requests ``--max-num-active-seqs`` admits."""
        server = self.server_at(knobs)
        return with_graphs(server, server.graphs.captured(knobs.max_num_seqs))


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen of a server, its pods and its trial. Times are seconds since the epoch."""

    desired: Desired
    pods: frozenset[str]
    """Of the setting in force, that serve."""
    stable: Stable
    trial_pod: str | None = None
    trial_ready: float | None = None
    candidate: Candidate = Candidate.ABSENT
    change: Change = Change.NONE
    in_place: bool = False
    """Whether the trial stands for the only replica."""
    displaces: bool = False
    """Whether the trial's pod has the place of another one, of however many replicas."""
    start_seconds: float = 0.0
    kind: str = ""
    revisions: Sequence[TrialRevision] = ()
    describable: bool = True
    replicas: int = 0
    """``spec.replicas``."""
    settled_since: float | None = None
    starts_allowed: int = 0
    window: Window | None = None
    permit: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """What a visit comes to."""

    tuning: Tuning | None
    """The status; the same object where it did not change."""
    step: Step
    held: Held | None
    """Why nothing is learned."""
    diagnosis: Diagnosis | None
    """What bounds the server, of the last window."""
    choice: Proposal | Rest | None
    """What was found the last time that was asked."""
    judgement: Judgement | None = None

    @property
    def wants(self) -> Wants:
        """What should exist."""
        return self.step.wants

    @property
    def knobs(self) -> Knobs | None:
        """The setting that is proposed or tried."""
        trial = self.tuning.trial if self.tuning else None
        return knobs_of(trial.to) if trial else None
