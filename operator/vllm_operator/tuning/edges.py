"""The edges between the states of tuning, as data: of a state the first that holds is taken.

An edge holds where every input that it names has one of the values that it names. No edge between
two states can be taken that does not stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vllm_operator.api.ledger import Verdict

from .standing import (
    Candidate,
    Change,
    Halt,
    Judged,
    Leave,
    Load,
    Metrics,
    Mode,
    Proposal,
    Record,
    Stable,
    State,
)

Value = Enum | bool
When = Mapping[str, frozenset[Value]]


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one state to another."""

    source: State
    target: State
    guard: str
    """Name of what must hold."""
    when: When
    """The same as data: the values that each input may have; of the others any."""
    tells: str
    """The reason in the condition ``Tuned``."""
    sentence: str
    """What a person is told."""
    verdict: Verdict | None = None
    """How the trial ended, where this ends it."""


def _when(**inputs: Value | tuple[Value, ...]) -> When:
    """A single value, or several of which one must be."""
    return {
        name: frozenset(value if isinstance(value, tuple) else (value,))
        for name, value in inputs.items()
    }


S = State
RUNS: Final = _when(mode=(Mode.RECOMMEND, Mode.AUTO))
HALTED: Final = _when(halt=(Halt.PAUSED, Halt.STOPPED, Halt.DELETED))
MAY_LOOK: Final = _when(metrics=Metrics.OK, change=Change.NONE, halt=Halt.NONE)
BETTER: Final = _when(proposal=(Proposal.SAME, Proposal.OTHER))

HELD: Final = (S.STARTING, S.WARMING, S.JUDGING)
"""States in which a rollout is held for a trial."""

PROMOTED: Final = (S.PROMOTING, S.VERIFYING)
"""States in which the trial's revision is in force and may still be taken back."""

LEAVES: Final = {
    Leave.GRANTED: ("Proposed", "a better setting was found"),
    Leave.RECOMMEND_ONLY: ("Proposed", "a better setting is recommended; it is not tried"),
    Leave.INCONCLUSIVE: ("Inconclusive", "the last two trials told nothing; none is begun"),
    Leave.SCALED_TOO_OFTEN: (
        "ScaledTooOften",
        "the replicas change too often for a trial to reach its end; none is begun",
    ),
    Leave.BUDGET_SPENT: ("BudgetSpent", "spec.autotune.maxTrialsPerDay was reached"),
    Leave.OUTSIDE_WINDOW: ("OutsideWindow", "trials wait for spec.autotune.window"),
    Leave.UNSETTLED: ("Proposed", "a trial waits until all replicas are ready for a while"),
    Leave.OTHERS_FIRST: ("OthersFirst", "a trial waits for those of other servers"),
}
"""What is told of a proposal: the reason, and why it is not tried."""

FOUND: Final = {
    Proposal.SETTLED: "no setting is enough better to be tried",
    Proposal.CAP_NOT_BINDING: "no limit binds at this load, and the objective is kept",
    Proposal.SCALE_OUT: "no flag helps; more replicas would",
}

_INTERRUPTIONS: Final = {
    Change.REPLANNED: ("another plan", "the specification asks for another plan"),
    Change.SCALED: ("scaled", "the replicas changed by more than a trial stands"),
    Change.DISTURBED: ("disturbed", "somebody else changed the Deployment"),
    Change.CROWDED: ("crowded", "a replica waits for the room that the trial's pod has"),
}

_FAULTS: Final = {
    Candidate.OTHERWISE: ("other flags", "its engine does not have what was planned"),
    Candidate.CRASHED: ("crashed", "its engine ended"),
    Candidate.OUT_OF_MEMORY: ("out of memory", "its GPU ran out of memory"),
    Candidate.HUNG: ("hung", "its engine had requests and moved none"),
}


def _disabling() -> list[Edge]:
    edges = []
    for state in State:
        if state is S.DISABLED:
            continue
        verdict: Verdict | None = None
        if state in HELD:
            verdict = "Interrupted"
        if state in PROMOTED:
            verdict = "Promoted"
        edges.append(
            Edge(
                state,
                S.DISABLED,
                "disabled",
                _when(mode=Mode.DISABLED),
                "Disabled",
                "spec.autotune.mode is Disabled",
                verdict,
            )
        )
    return edges


def _ending() -> list[Edge]:
    """What ends a trial, or stops watching what was promoted, without a word on the setting."""
    edges = []
    for state in (*HELD, *PROMOTED):
        verdict: Verdict = "Interrupted" if state in HELD else "Promoted"
        kept = "" if state in HELD else "; the new setting stays, not verified to the end"
        edges += [
            Edge(state, S.OBSERVING, "halted", HALTED, "Observing",
                 f"the server is paused, stopped or deleted{kept}", verdict),
            Edge(state, S.OBSERVING, "recommends only", _when(mode=Mode.RECOMMEND), "Observing",
                 f"spec.autotune.mode is Recommend{kept}", verdict),
        ]  # fmt: skip
    for state in HELD:
        edges += [
            Edge(state, S.ROLLING_BACK, guard, _when(change=change), "Interrupted",
                 f"the trial was interrupted: {sentence}", "Interrupted")
            for change, (guard, sentence) in _INTERRUPTIONS.items()
        ]  # fmt: skip
    edges += [
        Edge(state, S.OBSERVING, "another plan", _when(change=Change.REPLANNED), "Observing",
             "the specification asks for another plan; what was promoted is not verified to the "
             "end", "Promoted")
        for state in PROMOTED
    ]  # fmt: skip
    return edges


def _failing() -> list[Edge]:
    """What a trial's pod may not do."""
    edges = []
    for state in HELD:
        faults = dict(_FAULTS)
        if state is not S.STARTING:
            faults[Candidate.UNREADY] = ("unready", "its pod was ready and is not")
        edges += [
            Edge(state, S.ROLLING_BACK, guard, _when(candidate=fault), "RolledBack",
                 f"the trial was taken back: {sentence}", "RolledBack")
            for fault, (guard, sentence) in faults.items()
        ]  # fmt: skip
    for state in (S.WARMING, S.JUDGING):
        gone = (Candidate.ABSENT, Candidate.PENDING, Candidate.RUNNING, Candidate.NO_ROOM)
        edges += [
            Edge(state, S.STARTING, "pod lost", _when(candidate=gone, replaced=False), "InCanary",
                 "the trial's pod was lost, and another one starts"),
            Edge(state, S.ROLLING_BACK, "pod lost again", _when(candidate=gone, replaced=True),
                 "Interrupted", "the trial was interrupted: its pod was lost twice", "Interrupted"),
        ]  # fmt: skip
    return edges


def _proposing() -> list[Edge]:
    edges = []
    for leave, (tells, sentence) in LEAVES.items():
        edges += [
            Edge(S.OBSERVING, S.PROPOSED, f"better, {leave}",
                 {**MAY_LOOK, **BETTER, **_when(leave=leave)}, tells, sentence),
            Edge(S.PROPOSED, S.PROPOSED, f"news, {leave}",
                 {**MAY_LOOK, **BETTER, **_when(leave=leave, due=True, news=True)},
                 tells, sentence),
        ]  # fmt: skip
    return edges


EDGES: Final[tuple[Edge, ...]] = (
    *_disabling(),
    Edge(S.DISABLED, S.OBSERVING, "enabled", RUNS, "Observing", "evidence is gathered"),
    *_ending(),
    *_failing(),
    # Observing
    Edge(S.OBSERVING, S.SUSPENDED, "failing", _when(record=Record.FAILING), "Suspended",
         "three of the last five trials were taken back"),
    Edge(S.OBSERVING, S.SETTLED, "pinned", _when(proposal=Proposal.PINNED, halt=Halt.NONE),
         "Pinned", "every flag that could be tuned is pinned"),
    *(Edge(S.OBSERVING, S.SETTLED, f"found {found}", {**MAY_LOOK, **_when(proposal=found)},
           found.value, sentence) for found, sentence in FOUND.items()),
    # Settled
    Edge(S.SETTLED, S.OBSERVING, "unpinned",
         _when(due=True, pinned=True, proposal=tuple({*Proposal} - {Proposal.PINNED})),
         "Observing", "not every flag is pinned any more"),
    Edge(S.SETTLED, S.OBSERVING, "replanned", _when(due=True, pinned=False,
         change=Change.REPLANNED), "Observing", "another plan is in force"),
    Edge(S.SETTLED, S.OBSERVING, "drifted", _when(due=True, pinned=False, load=Load.DRIFTED),
         "Observing", "the load is another one"),
    Edge(S.SETTLED, S.OBSERVING, "broken", _when(due=True, pinned=False, load=Load.BROKEN,
         proposal=(Proposal.UNDECIDED, Proposal.SAME, Proposal.OTHER)),
         "Observing", "the objective is not kept"),
    # Proposed
    Edge(S.PROPOSED, S.SUSPENDED, "failing", _when(record=Record.FAILING), "Suspended",
         "three of the last five trials were taken back"),
    Edge(S.PROPOSED, S.STARTING, "may begin",
         {**MAY_LOOK, **_when(mode=Mode.AUTO, proposal=Proposal.SAME, leave=Leave.GRANTED,
                              stable=Stable.SETTLED)},
         "InCanary", "a pod with the proposed setting starts"),
    Edge(S.PROPOSED, S.OBSERVING, "evidence lost", _when(due=True, metrics=Metrics.LOST),
         "Observing", "what the proposal rests on is not seen any more"),
    Edge(S.PROPOSED, S.OBSERVING, "no longer better", _when(due=True, metrics=Metrics.OK,
         proposal=tuple({*Proposal} - {Proposal.SAME, Proposal.OTHER})),
         "Observing", "the proposed setting is not better any more"),
    *_proposing(),
    # Starting
    Edge(S.STARTING, S.ROLLING_BACK, "no room", _when(candidate=Candidate.NO_ROOM),
         "NoRoomForCanary", "there is no room for a trial's pod", "NoRoom"),
    Edge(S.STARTING, S.WARMING, "ready", _when(candidate=Candidate.READY),
         "InCanary", "the trial's pod serves and warms up"),
    Edge(S.STARTING, S.ROLLING_BACK, "too slow", _when(due=True), "RolledBack",
         "the trial was taken back: its pod did not serve in time", "RolledBack"),
    # Warming
    Edge(S.WARMING, S.ROLLING_BACK, "evidence lost", _when(metrics=Metrics.LOST),
         "Inconclusive", "the trial told nothing: its metrics were lost", "Inconclusive"),
    Edge(S.WARMING, S.JUDGING, "warm",
         _when(metrics=Metrics.OK, candidate=Candidate.READY, warm=True),
         "InCanary", "the trial's pod is compared with the others"),
    Edge(S.WARMING, S.ROLLING_BACK, "time is up", _when(due=True), "Inconclusive",
         "the trial told nothing: its pod got too few requests", "Inconclusive"),
    # Judging
    Edge(S.JUDGING, S.ROLLING_BACK, "evidence lost", _when(metrics=Metrics.LOST),
         "Inconclusive", "the trial told nothing: its metrics were lost", "Inconclusive"),
    Edge(S.JUDGING, S.ROLLING_BACK, "bad", _when(metrics=Metrics.OK, stable=Stable.SETTLED,
         judged=Judged.BAD), "RolledBack", "the trial was taken back: it is worse", "RolledBack"),
    Edge(S.JUDGING, S.PROMOTING, "good",
         _when(metrics=Metrics.OK, stable=Stable.SETTLED, candidate=Candidate.READY,
               judged=Judged.GOOD),
         "InCanary", "the trial is better; the other replicas get its setting"),
    Edge(S.JUDGING, S.ROLLING_BACK, "inconclusive", _when(metrics=Metrics.OK,
         stable=Stable.SETTLED, judged=Judged.INCONCLUSIVE), "Inconclusive",
         "the trial told nothing", "Inconclusive"),
    Edge(S.JUDGING, S.ROLLING_BACK, "time is up", _when(due=True), "Inconclusive",
         "the trial told nothing in its time", "Inconclusive"),
    # Promoting and verifying
    *(Edge(state, S.ROLLING_BACK, "rollout failed", _when(stable=Stable.FAILED), "RolledBack",
           "the new setting was taken back: its rollout failed", "RolledBack")
      for state in PROMOTED),
    *(Edge(state, S.ROLLING_BACK, "out of memory", _when(candidate=Candidate.OUT_OF_MEMORY),
           "RolledBack", "the new setting was taken back: a GPU ran out of memory", "RolledBack")
      for state in PROMOTED),
    Edge(S.PROMOTING, S.ROLLING_BACK, "unready", _when(candidate=Candidate.UNREADY), "RolledBack",
         "the trial was taken back: its pod was ready and is not", "RolledBack"),
    Edge(S.PROMOTING, S.VERIFYING, "rolled out", _when(stable=Stable.SETTLED), "Promoted",
         "all replicas have the new setting, and are watched"),
    Edge(S.VERIFYING, S.ROLLING_BACK, "bad", _when(metrics=Metrics.OK, judged=Judged.BAD),
         "RolledBack", "the new setting was taken back: it does not keep what it promised",
         "RolledBack"),
    Edge(S.VERIFYING, S.OBSERVING, "verified", _when(due=True, metrics=Metrics.OK,
         stable=(Stable.SETTLED, Stable.ROLLING)), "Promoted",
         "the new setting keeps what it promised", "Promoted"),
    # Rolling back
    Edge(S.ROLLING_BACK, S.SUSPENDED, "restored, failing", _when(candidate=Candidate.ABSENT,
         stable=Stable.SETTLED, record=Record.FAILING), "Suspended",
         "three of the last five trials were taken back"),
    Edge(S.ROLLING_BACK, S.OBSERVING, "restored, interrupted", _when(candidate=Candidate.ABSENT,
         stable=Stable.SETTLED, interrupted=True), "Observing", "evidence is gathered"),
    Edge(S.ROLLING_BACK, S.COOLING_DOWN, "restored", _when(candidate=Candidate.ABSENT,
         stable=Stable.SETTLED, interrupted=False), "CoolingDown",
         "nothing is tried for a while"),
    # Cooling down
    Edge(S.COOLING_DOWN, S.OBSERVING, "cooled down", _when(due=True), "Observing",
         "evidence is gathered"),
    # Suspended
    Edge(S.SUSPENDED, S.OBSERVING, "asked again", _when(record=Record.CLEAN), "Observing",
         "another plan, or a person, asks for it again"),
)  # fmt: skip
"""Disabling first, then what ends a trial without a verdict, then what its pod may not do."""
