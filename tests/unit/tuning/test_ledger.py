"""What tuning remembers in the status, and what it says of it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.conditions import REASONS
from vllm_operator.api.ledger import (
    Tuning,
    TuningEntry,
    TuningLoad,
    TuningMeasurement,
    TuningState,
    TuningTrial,
)
from vllm_operator.tuning.edges import EDGES
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.ledger import (
    News,
    TrialRevision,
    alike,
    ended,
    knobs_of,
    rejected,
    remember,
    seconds_of,
    setting_of,
    standing_of,
    tally,
    time_of,
)
from vllm_operator.tuning.machine import Step, transition
from vllm_operator.tuning.standing import (
    Candidate,
    Change,
    Desired,
    Judged,
    Leave,
    Metrics,
    Mode,
    Observed,
    Proposal,
    Record,
    Stable,
    Standing,
    State,
)
from vllm_operator.tuning.story import ADVICE, WAITS_FOR, change, proposed, told, tuned

NOW = 1_780_000_000.0
DAY = 86_400.0
OLD = Knobs(256, 8192, 0.9)
NEW = Knobs(96, 8192, 0.92, 64)
LOAD = {"requestsPerMinute": 540, "promptTokens": 800, "outputTokens": 250, "cachedPerMille": 0}
TRIAL = TuningTrial.model_validate(
    {
        "proposedAt": time_of(NOW),
        "trigger": "the objective is not kept",
        "diagnosis": "Latency",
        "from": setting_of(OLD).to_json_object(),
        "to": setting_of(NEW).to_json_object(),
        "load": LOAD,
        "evidence": {
            "intervals": 240,
            "requests": 3120,
            "batchLow": 8,
            "batchHigh": 40,
            "deviationPerMille": 85,
        },
        "predicted": {
            "outputTokensPerSecond": {"low": 1180, "expected": 1240, "high": 1300},
            "interTokenLatencyPerMille": {"low": 951, "expected": 968, "high": 980},
        },
    }
)
MEASURED = TuningMeasurement.model_validate(
    {
        "minutes": 30,
        "requests": 400,
        "slowerPerMille": -21,
        "plusMinusPerMille": 13,
        "outputTokensPerSecond": {"low": 1200, "expected": 1230, "high": 1260},
    }
)
AUTO = Desired(Mode.AUTO)
LOOKS = Observed(
    metrics=Metrics.OK,
    proposal=Proposal.SAME,
    stable=Stable.SETTLED,
    leave=Leave.GRANTED,
    start_seconds=600,
)
SERVES = Observed(
    metrics=Metrics.OK,
    stable=Stable.SETTLED,
    candidate=Candidate.READY,
    warm=True,
    start_seconds=600,
)
NEWS = News(
    proposal=TRIAL,
    load=TuningLoad.model_validate(LOAD),
    revision="qwen-7",
    parent="qwen-6",
    placement="Surge",
    pod="qwen-abc",
    measured=MEASURED,
)


def visit(
    tuning: Tuning | None, observed: Observed, now: float, desired: Desired = AUTO, **news: Any
) -> Tuning | None:
    """A visit as the operator makes it: all that it knows of before stands in the status."""
    step = transition(standing_of(tuning, desired, now), desired, observed, now)
    return remember(tuning, step, now, News(**{**vars_of(NEWS), **news}))


def vars_of(news: News) -> dict[str, Any]:
    return {name: getattr(news, name) for name in News.__dataclass_fields__}


def through(*observed: Observed) -> Tuning:
    """A minute between two visits, each from what the API server would have kept."""
    tuning: Tuning | None = None
    for number, one in enumerate(observed):
        after = visit(tuning, one, NOW + 60 * number)
        assert after is not None
        tuning = Tuning.model_validate(after.to_json_object())
        assert tuning == after
    assert tuning is not None
    return tuning


BEGUN = (LOOKS, LOOKS)
JUDGING = (*BEGUN, SERVES, SERVES)
BAD = Observed(**{**{n: getattr(SERVES, n) for n in Observed.__dataclass_fields__},
                  "judged": Judged.BAD})  # fmt: skip


def test_a_server_that_was_never_tuned_has_no_status_of_it() -> None:
    assert visit(None, LOOKS, NOW, Desired(Mode.DISABLED)) is None


def test_a_visit_that_takes_no_edge_gives_the_same_object() -> None:
    tuning = through(*JUDGING)
    assert visit(tuning, SERVES, NOW + 500) is tuning


def test_a_proposal_stands_in_the_status_before_it_is_tried() -> None:
    tuning = through(LOOKS)
    assert (tuning.state, tuning.trial) == ("Proposed", TRIAL)


def test_a_trial_has_its_revision_and_its_parent_from_its_first_moment() -> None:
    tuning = through(*BEGUN)
    assert tuning.trial is not None
    assert (tuning.state, tuning.trial.revision, tuning.trial.parent) == (
        "Starting", "qwen-7", "qwen-6",
    )  # fmt: skip
    assert tuning.trial.started_at == time_of(NOW + 60)


def test_the_pod_that_is_judged_is_named_and_forgotten_where_it_is_lost() -> None:
    lost = Observed(metrics=Metrics.OK, stable=Stable.SETTLED, candidate=Candidate.PENDING)
    assert through(*JUDGING).trial.pod == "qwen-abc"  # type: ignore[union-attr]
    again = through(*JUDGING, lost)
    assert again.trial is not None
    assert (again.state, again.trial.pod, again.trial.replaced) == ("Starting", None, True)
    assert standing_of(again, AUTO, NOW).replaced


def test_a_rollback_keeps_its_trial_until_the_parent_is_restored() -> None:
    tuning = through(*JUDGING, BAD)
    assert tuning.trial is not None
    assert (tuning.state, tuning.trial.parent) == ("RollingBack", "qwen-6")
    restored = Observed(stable=Stable.SETTLED, rollbacks=1)
    after = through(*JUDGING, BAD, restored)
    assert (after.state, after.trial) == ("CoolingDown", None)
    assert len(after.history) == 1


def test_a_trial_that_ended_stands_in_the_history_with_what_was_measured() -> None:
    (entry,) = through(*JUDGING, BAD).history
    assert (entry.verdict, entry.measured, entry.to) == ("RolledBack", MEASURED, TRIAL.to)
    assert entry.ended_at == time_of(NOW + 240)


def test_a_trial_that_is_switched_off_leaves_its_entry() -> None:
    tuning = through(*JUDGING)
    off = visit(tuning, SERVES, NOW + 500, Desired(Mode.DISABLED))
    assert off is not None
    assert (off.state, off.trial, off.history[0].verdict) == ("Disabled", None, "Interrupted")


def test_the_load_is_kept_where_nothing_better_was_found_for_it() -> None:
    nothing = Observed(metrics=Metrics.OK, proposal=Proposal.CAP_NOT_BINDING)
    tuning = through(nothing)
    assert (tuning.state, tuning.load) == ("Settled", NEWS.load)


def test_a_time_that_nobody_can_read_is_a_status_that_is_lost() -> None:
    tuning = through(*JUDGING).model_copy(update={"since": "yesterday"})
    assert standing_of(tuning, AUTO, NOW).state is State.OBSERVING


@given(
    st.sampled_from([*State]),
    st.floats(0, 4e9),
    st.none() | st.floats(0, 4e9),
    st.sampled_from(sorted({edge.tells for edge in EDGES})),
)
def test_where_tuning_is_comes_back_from_the_status_within_a_second(
    state: State, since: float, until: float | None, reason: str
) -> None:
    standing = Standing(state, since, until, reason)
    written = remember(Tuning(state="Observing", since=time_of(0), reason="x"),
                       Step(standing, EDGES[0], None), since, News())  # fmt: skip
    assert written is not None
    read = standing_of(written, AUTO, since)
    assert (read.state, read.reason) == (state, reason)
    assert 0 <= since - read.since < 1
    assert (read.until is None) == (until is None)
    if until is not None and read.until is not None:
        assert 0 <= read.until - until <= 1


@pytest.mark.parametrize("knobs", [OLD, NEW])
def test_knobs_come_back_from_the_status(knobs: Knobs) -> None:
    assert knobs_of(setting_of(knobs)) == knobs


def test_a_time_of_another_zone_or_of_none_is_read() -> None:
    assert seconds_of("1970-01-01T01:00:01+01:00") == seconds_of("1970-01-01T00:00:01") == 1


def entries(*verdicts: str) -> list[TuningEntry]:
    """The newest last, an hour between two; their revisions are counted from 1."""
    history: list[TuningEntry] = []
    for number, verdict in enumerate(verdicts, start=1):
        trial = TRIAL.model_copy(update={"revision": f"qwen-{number}"})
        history = ended(history, trial, NOW + number, verdict, "told")  # type: ignore[arg-type]
    return history


def revisions(count: int, kind: str = "one", promoted: tuple[int, ...] = ()) -> list[TrialRevision]:
    return [
        TrialRevision(f"qwen-{number}", NOW - DAY / 2 + 60 * number, kind, number in promoted)
        for number in range(1, count + 1)
    ]


def test_ten_trials_are_kept_and_the_newest_is_the_first() -> None:
    history = entries(*["Inconclusive"] * 12)
    assert [entry.revision for entry in history] == [f"qwen-{n}" for n in range(12, 2, -1)]


def past(*verdicts: str) -> Tuning:
    return Tuning(
        state="Observing", since=time_of(NOW), reason="Observing", history=entries(*verdicts)
    )


R, P, I, X, N = "RolledBack", "Promoted", "Inconclusive", "Interrupted", "NoRoom"  # noqa: E741


@pytest.mark.parametrize(
    ("verdicts", "failing", "rollbacks", "inconclusive"),
    [
        ([], False, 0, 0),
        ([R, R], False, 2, 0),
        ([R, R, R], True, 3, 0),
        ([R, I, R, I, R], True, 3, 0),
        ([R, R, I, I, I, R], False, 3, 0),
        ([R, R, P, R], False, 1, 0),
        ([R, R, R, P], False, 0, 0),
        ([R, R, X, N, X, N, X, R], True, 3, 0),
        ([I, I], False, 0, 2),
        ([I, X, I, N], False, 0, 2),
        ([I, R, I], False, 1, 1),
        ([I, P], False, 0, 0),
    ],
)
def test_what_trials_come_to(
    verdicts: list[str], failing: bool, rollbacks: int, inconclusive: int
) -> None:
    found = tally(past(*verdicts), revisions(len(verdicts)), "one", NOW)
    expected = Record.FAILING if failing else Record.CLEAN
    assert (found.record, found.rollbacks, found.inconclusive) == (
        expected, rollbacks, inconclusive,
    )  # fmt: skip


def test_without_a_status_three_trials_without_a_promotion_are_three_rollbacks() -> None:
    assert tally(None, revisions(3), "one", NOW).record is Record.FAILING
    assert tally(None, revisions(3, promoted=(2,)), "one", NOW).record is Record.CLEAN


def test_trials_of_another_kind_of_plan_count_for_the_day_and_for_nothing_else() -> None:
    found = tally(past(R, R, R), revisions(3), "another", NOW)
    assert (found.record, found.rollbacks, found.starts) == (Record.CLEAN, 0, 3)


def test_a_trial_that_found_no_room_is_no_start_and_an_interrupted_one_is() -> None:
    assert tally(past(N, X, N), revisions(3), "one", NOW).starts == 1


def test_a_trial_that_runs_is_a_start_and_no_verdict() -> None:
    trial = TRIAL.model_copy(update={"revision": "qwen-3"})
    judged = past(R, R).model_copy(update={"state": "Judging", "trial": trial})
    found = tally(judged, revisions(3), "one", NOW)
    assert (found.starts, found.record) == (3, Record.CLEAN)


def test_a_trial_that_was_taken_back_has_its_verdict_before_its_parent_is_restored() -> None:
    trial = TRIAL.model_copy(update={"revision": "qwen-3"})
    ending = past(R, R, R).model_copy(update={"state": "RollingBack", "trial": trial})
    assert tally(ending, revisions(3), "one", NOW).record is Record.FAILING


def test_what_began_a_day_ago_is_not_of_this_day() -> None:
    old = [TrialRevision("qwen-1", NOW - DAY, "one", False)]
    assert tally(None, old, "one", NOW).starts == 0


@pytest.mark.parametrize(
    ("field", "near", "far"),
    [
        ("requestsPerMinute", 420, 400),
        ("promptTokens", 1000, 1100),
        ("outputTokens", 200, 180),
        ("cachedPerMille", 100, 101),
    ],
)
def test_a_load_is_another_one_by_its_rate_its_lengths_or_its_prefixes(
    field: str, near: int, far: int
) -> None:
    load = TuningLoad.model_validate(LOAD)
    assert alike(load, TuningLoad.model_validate(LOAD | {field: near}))
    assert not alike(load, TuningLoad.model_validate(LOAD | {field: far}))


def test_what_was_taken_back_is_rejected_at_such_a_load_only() -> None:
    load = TuningLoad.model_validate(LOAD)
    busier = TuningLoad.model_validate(LOAD | {"requestsPerMinute": 5400})
    assert rejected(entries(R), load) == (NEW,)
    assert rejected(entries(R), busier) == ()
    assert rejected(entries(I, X, N, P), load) == ()


def test_a_proposal_is_told_with_its_figures() -> None:
    assert proposed(TRIAL) == (
        "max-num-seqs 256 -> 96, max-num-active-seqs unset -> 64, gpu-memory-utilization "
        "0.9 -> 0.92, as Latency bounds the server; predicted 1240 (1180 to 1300) output tokens a "
        "second, 96.8 % (95.1 % to 98 %) of gaps between tokens in time; from 240 intervals with "
        "3120 requests, 8 to 40 of them in a step, durations of steps known to 8.5 %"
    )


def test_a_trial_that_ended_is_told_with_what_was_measured_beside_what_was_predicted() -> None:
    (entry,) = ended([], TRIAL, NOW + 1800, "Promoted", "it is better", MEASURED)
    assert told(entry).startswith(
        "max-num-seqs 256 -> 96, max-num-active-seqs unset -> 64, gpu-memory-utilization "
        "0.9 -> 0.92 was promoted after 30 minutes: it is better; measured over 30 minutes with "
        "400 requests, steps 2.1 % faster at equal load (give or take 1.3 %), 1230 (1200 to 1260) "
        "output tokens a second; predicted 1240 (1180 to 1300) output tokens a second"
    )


def test_a_trial_of_one_minute_is_told_as_one_minute() -> None:
    measured = MEASURED.model_copy(update={"minutes": 1, "requests": 1})
    (entry,) = ended([], TRIAL, NOW + 60, "Promoted", "it is better", measured)
    assert "promoted after 1 minute: " in told(entry)
    assert "measured over 1 minute with 1 request, " in told(entry)


def test_two_equal_settings_differ_in_nothing() -> None:
    assert change(setting_of(OLD), setting_of(OLD)) == "nothing"


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.source}: {edge.guard}")
def test_after_every_edge_the_condition_tells_its_reason_and_a_sentence(edge: Any) -> None:
    tuning = Tuning(
        state=edge.target.value,
        since=time_of(NOW),
        until=time_of(NOW + 60),
        reason=edge.tells,
        trial=TRIAL,
        history=entries(R),
    )
    draft = tuned(tuning)
    assert (draft.type, draft.reason) == ("Tuned", edge.tells)
    assert len(draft.message) > 15
    assert draft.status in ("True", "False", "Unknown")


BETTER = "a better setting was found"
WAITED = "a trial waits until all replicas are ready for a while"
SAID: dict[tuple[str, str], tuple[str, ...]] = {
    ("Observing", "Observing"): ("evidence is gathered",),
    ("Observing", "NoEvidence"): ("evidence is gathered",),
    ("Observing", "Promoted"): ("evidence is gathered", "LAST"),
    ("Settled", "Settled"): ("FOUND", "DIAGNOSIS"),
    ("Settled", "CapNotBinding"): ("FOUND", "DIAGNOSIS"),
    ("Settled", "ScaleOut"): ("FOUND", "DIAGNOSIS"),
    ("Settled", "Pinned"): ("every flag that could be tuned is pinned", "DIAGNOSIS"),
    ("Proposed", "Inconclusive"): (
        "the last two trials told nothing; none is begun",
        "TRIAL",
    ),
    ("Proposed", "BudgetSpent"): ("spec.autotune.maxTrialsPerDay was reached", "TRIAL"),
    ("Proposed", "OutsideWindow"): ("trials wait for spec.autotune.window", "TRIAL"),
    ("Proposed", "OthersFirst"): ("a trial waits for those of other servers", "TRIAL"),
    ("Proposed", "Proposed"): (BETTER, "TRIAL"),
    ("Starting", "InCanary"): ("a pod with another setting starts", "TRIAL"),
    ("Warming", "InCanary"): ("a pod with another setting serves and warms up", "TRIAL"),
    ("Judging", "InCanary"): (
        "a pod with another setting is compared with the others",
        "TRIAL",
    ),
    ("Promoting", "Promoted"): (
        "the other replicas get the setting that proved better",
        "TRIAL",
    ),
    ("Verifying", "Promoted"): (
        "all replicas have the setting that proved better, and are watched",
        "TRIAL",
    ),
    ("RollingBack", "RolledBack"): ("the plan before the trial is restored", "LAST"),
    ("CoolingDown", "RolledBack"): ("nothing is tried until 2026-05-28T20:27:40Z", "LAST"),
    ("Suspended", "Suspended"): ("three of the last five trials were taken back", "LAST"),
}


@pytest.mark.parametrize(("state", "reason"), SAID)
def test_a_state_is_told_by_its_own_parts_and_by_nothing_that_is_left_of_before(
    state: TuningState, reason: str
) -> None:
    left = {"found": "FOUND", "diagnosis": {"bound": "Sequences", "message": "DIAGNOSIS"}}
    tuning = Tuning.model_validate(
        {
            "state": state,
            "since": time_of(NOW),
            "until": time_of(NOW + 60),
            "reason": reason,
            "trial": TRIAL.to_json_object(),
            "history": [one.to_json_object() for one in entries(R)],
            **left,
        }
    )
    told_of = {"TRIAL": proposed(TRIAL), "LAST": told(entries(R)[0])}
    expected = "; ".join(told_of.get(part, part) for part in SAID[state, reason])
    assert tuned(tuning).message == expected


def test_every_state_waits_for_something_and_every_reason_has_its_advice() -> None:
    tuned_states = set(get_args(TuningState)) - {"Disabled"}
    assert set(WAITS_FOR) == tuned_states
    assert set(ADVICE) == {*REASONS["Tuned"], "Disabled"}


def test_the_condition_is_true_where_nothing_better_is_known() -> None:
    true = {
        reason
        for reason in REASONS["Tuned"]
        if tuned(Tuning(state="Observing", since=time_of(0), reason=reason)).status == "True"
    }
    assert true == {"Settled", "CapNotBinding", "Pinned", "Promoted"}


def test_a_change_that_interrupts_is_the_reason_of_the_entry() -> None:
    scaled = Observed(
        metrics=Metrics.OK, stable=Stable.SETTLED, candidate=Candidate.READY, change=Change.SCALED
    )
    (entry,) = through(*JUDGING, scaled).history
    assert entry.verdict == "Interrupted"
    assert "replicas changed" in entry.reason
