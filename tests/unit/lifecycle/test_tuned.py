"""What tuning is told of a server, and what its answer means for the server's Deployment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.builders import OFFER, make_plan, make_server
from support.observed import ENDING, NOW
from unit.sizing.examples import inputs_for
from vllm_operator.api.ledger import Tuning
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.graphs import Graphs
from vllm_operator.lifecycle.intent import World
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.records import ChildRecord, PodRecord
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import Pinned, controller_revision
from vllm_operator.lifecycle.trial import Wanted
from vllm_operator.lifecycle.trials import promoted
from vllm_operator.lifecycle.tuned import (
    curve_key,
    facts_of,
    kind_of,
    knobs_in_force,
    objective_of,
    scene_of,
    tuned_of,
    wanted_of,
    with_revision,
)
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.plan.planner import Sized
from vllm_operator.sizing.plan.planner import make_plan as make_plan_of
from vllm_operator.tuning.candidates import Range, Rules
from vllm_operator.tuning.graphs import captured
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.proposals import Planned, Refused
from vllm_operator.tuning.scene import Facts, Scene
from vllm_operator.tuning.standing import Candidate, Change, Halt, Mode, Stable, Wants

from .test_trial import (
    CALM,
    IN_FORCE,
    MARK,
    RECORDS,
    SERVER,
    STABLE_PLAN,
    TRIAL,
    TRIAL_RECORD,
    TRIED,
    WAITS,
    WITH_TRIAL,
    S,
    held,
    pin,
    tuned_server,
)
from .test_trial import STABLE as PODS

SETTING = {"maxNumSeqs": 256, "maxNumBatchedTokens": 8192, "gpuMemoryUtilization": 0.92}
AT = "2026-01-01T00:00:00Z"
STABLE = [replace(one, created_at=AT) for one in PODS]


def tuning(state: str, **trial: Any) -> dict[str, Any]:
    """A status of tuning, with what is proposed or tried."""
    told = {
        "proposedAt": AT,
        "trigger": "gaps are late",
        "diagnosis": "Sequences",
        "from": SETTING,
        "to": {**SETTING, "maxNumSeqs": 96},
        **trial,
    }
    return {"state": state, "since": AT, "reason": "x", "trial": told}


def world(
    *pods: PodRecord,
    server: VLLMServer = SERVER,
    deployment: ChildRecord | None = CALM,
    revisions: Revisions = WITH_TRIAL,
    status: dict[str, Any] | None = None,
    seconds: float = 60,
) -> World:
    remembered = Remembered.from_status({"tuning": status} if status else None)
    now = NOW + timedelta(seconds=seconds)
    found = pods or tuple(STABLE)
    return World(server, (), revisions, remembered, found, None, now, deployment)


def scene(*pods: PodRecord, permit: bool = True, **seen: Any) -> Scene:
    return scene_of(world(*pods, **seen), permit=permit)


# The objective


@pytest.mark.parametrize(
    ("slo", "objective"),
    [
        (None, None),
        ({"percentile": 90}, None),
        ({"timeToFirstTokenMilliseconds": 1500}, Objective(1.5, None, 95.0)),
        ({"interTokenLatencyMilliseconds": 30}, Objective(None, 0.03, 95.0)),
        (
            {
                "timeToFirstTokenMilliseconds": 500,
                "interTokenLatencyMilliseconds": 20,
                "percentile": 99,
            },
            Objective(0.5, 0.02, 99.0),
        ),
    ],
)
def test_an_objective_is_in_seconds_and_at_the_95th_percentile_unless_another_is_named(
    slo: dict[str, int] | None, objective: Objective | None
) -> None:
    assert objective_of(make_server(workload={"slo": slo} if slo else {})) == objective


def test_a_server_without_a_workload_has_no_objective() -> None:
    assert objective_of(make_server()) is None


# The setting


def test_the_setting_in_force_is_the_plan_s() -> None:
    assert knobs_in_force(make_plan()) == Knobs(256, 8192, 0.92)
    flags = [{"name": "--max-num-active-seqs", "value": "96", "reason": "tuned"}]
    assert knobs_in_force(make_plan(flags=flags)) == Knobs(256, 8192, 0.92, 96)


NOW_SET = Knobs(256, 8192, 0.92, 128)


@pytest.mark.parametrize(
    ("then", "tuned"),
    [
        (NOW_SET, Tuned("why", max_num_active_seqs=128)),
        (Knobs(96, 8192, 0.92), Tuned("why", max_num_seqs=96)),
        (Knobs(256, 4096, 0.92), Tuned("why", max_num_batched_tokens=4096)),
        (Knobs(256, 8192, 0.9), Tuned("why", gpu_memory_utilization=0.9)),
    ],
)
def test_only_what_differs_from_the_setting_in_force_is_tuned(then: Knobs, tuned: Tuned) -> None:
    assert tuned_of(NOW_SET, then, None, "why") == tuned


def test_what_was_tuned_before_stays_tuned() -> None:
    before = Tuned("before", 200, 150, 2048, 0.8, 4000)
    same = tuned_of(NOW_SET, NOW_SET, before, "why")
    assert same == Tuned("why", 200, 128, 2048, 0.8, 4000)
    other = tuned_of(NOW_SET, Knobs(96, 4096, 0.9), before, "why")
    assert other == Tuned("why", 96, None, 4096, 0.9, 4000)


# What servers have in common


def placed(**change: Any) -> Any:
    return make_plan(placement={**make_plan().to_json_object()["placement"], **change})


def flagged(name: str, value: str) -> Any:
    return make_plan(flags=[{"name": name, "value": value, "reason": "r"}])


def engine(**change: Any) -> Any:
    return make_plan(engine={**make_plan().to_json_object()["engine"], **change})


OTHERS = {
    "model": make_plan(model={**make_plan().to_json_object()["model"], "id": "a/b"}),
    "version": engine(version="0.31.0"),
    "product": placed(gpu="NVIDIA-L4"),
    "tensor": placed(tensor=4),
    "pipeline": placed(pipeline=2),
    "data": placed(data=2),
    "experts": placed(expert=True),
    "data type": flagged("--dtype", "float16"),
    "quantization": flagged("--quantization", "fp8"),
    "cache type": flagged("--kv-cache-dtype", "fp8"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_steps_are_alike_only_on_the_same_gpus_with_the_same_split_and_data_types(
    other: Any,
) -> None:
    assert curve_key(other) != curve_key(make_plan())


def test_steps_are_alike_whatever_the_limits_and_the_image_are() -> None:
    assert curve_key(flagged("--max-num-seqs", "8")) == curve_key(make_plan())
    assert curve_key(engine(image="mine:1")) == curve_key(make_plan())


def test_a_trial_says_something_of_servers_of_its_model_image_gpus_workload_and_request() -> None:
    again = make_server()
    again.metadata.annotations["vllm-operator.io/retune"] = "now"
    kinds = [
        kind_of(make_server(), make_plan()),
        kind_of(make_server(model={"id": "c/d"}), make_plan()),
        kind_of(make_server(), engine(image="mine:1")),
        kind_of(make_server(), placed(tensor=4)),
        kind_of(make_server(workload={"promptTokens": 7}), make_plan()),
        kind_of(make_server(workload={"slo": {"interTokenLatencyMilliseconds": 9}}), make_plan()),
        kind_of(again, make_plan()),
    ]
    assert len(set(kinds)) == 7
    assert kind_of(make_server(replicas=3), make_plan()) == kinds[0]
    assert len(kinds[0]) == 16


# What is seen


def test_a_server_without_a_trial_is_told_with_its_serving_pods_and_its_kept_trials() -> None:
    seen = scene()
    assert (seen.desired.mode, seen.desired.halt) == (Mode.AUTO, Halt.NONE)
    assert seen.pods == {"a", "b"}
    assert (seen.stable, seen.candidate, seen.change) == (
        Stable.SETTLED,
        Candidate.ABSENT,
        Change.NONE,
    )
    assert (seen.trial_pod, seen.trial_ready, seen.in_place) == (None, None, False)
    assert seen.start_seconds == 120 + 900
    assert [one.name for one in seen.revisions] == [TRIAL.name]
    assert (seen.describable, seen.permit, seen.window) == (True, True, None)


def test_a_pod_that_serves_the_trial_is_told_with_the_moment_at_which_it_became_ready() -> None:
    tried = replace(TRIED, ready_since="2026-01-01T00:00:31Z")
    seen = scene(*STABLE, tried, deployment=held())
    assert (seen.candidate, seen.trial_pod) == (Candidate.READY, "t")
    assert seen.trial_ready == NOW.timestamp() + 31
    assert seen.pods == {"a", "b"}
    assert seen.stable is Stable.SETTLED


def test_one_that_does_not_say_when_it_became_ready_is_counted_from_its_creation() -> None:
    assert scene(*STABLE, TRIED, deployment=held()).trial_ready == NOW.timestamp() + 1


@pytest.mark.parametrize(
    ("autotune", "mode"),
    [
        (None, Mode.DISABLED),
        ({}, Mode.DISABLED),
        ({"mode": "Recommend"}, Mode.RECOMMEND),
        ({"mode": "Auto"}, Mode.AUTO),
    ],
)
def test_tuning_is_off_unless_a_mode_is_named(autotune: Any, mode: Mode) -> None:
    given = {"autotune": autotune} if autotune is not None else {}
    server = make_server(replicas=2, **given)
    assert scene(server=server).desired.mode is mode


def test_a_server_without_replicas_is_stopped() -> None:
    assert scene(server=tuned_server(0)).desired.halt is Halt.STOPPED


@pytest.mark.parametrize(("most", "allowed"), [(None, 2), (0, 0), (5, 5)])
def test_two_trials_a_day_are_begun_unless_another_number_is_named(
    most: int | None, allowed: int
) -> None:
    server = tuned_server(**({} if most is None else {"maxTrialsPerDay": most}))
    assert scene(server=server).starts_allowed == allowed
    assert scene(server=make_server(replicas=2)).starts_allowed == 2


def test_a_start_may_take_its_budget_after_the_surge_timeout_that_is_asked_for() -> None:
    server = make_server(replicas=2, autotune={"mode": "Auto"}, rollout={"surgeTimeoutSeconds": 7})
    assert scene(server=server).start_seconds == 7 + 900


def priority(disruption: str) -> VLLMServer:
    return make_server(
        replicas=2,
        autotune={"mode": "Auto", "disruption": disruption},
        pod={"priorityClassName": "high"},
    )


@pytest.mark.parametrize(
    ("server", "may_preempt", "describable"),
    [
        (SERVER, False, True),
        (priority("Forbid"), False, False),
        (priority("Forbid"), True, True),
        (priority("Allow"), False, True),
    ],
)
def test_a_trial_that_might_push_pods_off_a_node_needs_to_be_allowed_to(
    server: VLLMServer, may_preempt: bool, describable: bool
) -> None:
    seen = scene_of(world(server=server), permit=True, may_preempt=may_preempt)
    assert seen.describable is describable


def test_a_window_is_read_and_one_that_cannot_be_is_never_open() -> None:
    night = {"schedule": "0 2 * * *", "durationMinutes": 60}
    opened = scene(server=tuned_server(window=night)).window
    assert opened is not None
    assert opened.is_open(NOW.timestamp() + 2 * 3600)
    closed = scene(server=tuned_server(window={**night, "schedule": "0 2 30 2 *"})).window
    assert closed is not None
    assert not closed.is_open(NOW.timestamp() + 2 * 3600)


def test_in_place_is_only_told_of_the_trial_of_a_single_replica() -> None:
    mark = replace(MARK, in_place=MARK.began)
    for replicas, alone in ((1, True), (2, False)):
        server = tuned_server(replicas, disruption="Allow")
        seen = scene(*STABLE[:1], TRIED, server=server, deployment=held(mark))
        assert seen.in_place is alone
    assert not scene(*STABLE[:1], TRIED, server=tuned_server(1), deployment=held()).in_place


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_trial_in_another_pod_s_place_displaces_it_however_many_replicas_there_are(
    replicas: int,
) -> None:
    server = tuned_server(replicas, disruption="Allow")
    mark = replace(MARK, in_place=MARK.began)
    assert scene(*STABLE[:1], TRIED, server=server, deployment=held(mark)).displaces
    assert not scene(*STABLE[:1], TRIED, server=server, deployment=held()).displaces


# The pods of the plan in force


def test_one_stable_pod_may_be_missing_where_the_trial_has_its_place() -> None:
    mark = replace(MARK, in_place=MARK.began)
    server = tuned_server(disruption="Allow")
    alone = scene(STABLE[0], TRIED, server=server, deployment=held(mark))
    assert alone.stable is Stable.SETTLED
    assert scene(STABLE[0], TRIED, deployment=held()).stable is Stable.SHORT
    lost = replace(STABLE[0], ready=False)
    assert scene(lost, TRIED, server=server, deployment=held(mark)).stable is Stable.SHORT


def test_the_stable_pods_roll_while_the_deployment_is_not_settled_or_says_it_had_a_trial() -> None:
    for deployment in (
        None,
        replace(CALM, updated_replicas=1),
        held(min_ready_seconds=0, template=S, updated_replicas=2, replicas=2, ready_replicas=2),
    ):
        assert scene(deployment=deployment).stable is Stable.ROLLING
    assert scene(deployment=held()).stable is Stable.SETTLED


@pytest.mark.parametrize("state", ["Promoting", "RollingBack"])
def test_pods_are_not_settled_while_a_trial_is_yet_to_be_promoted_or_ended(state: str) -> None:
    assert scene(deployment=held(), status=tuning(state, **NAMED)).stable is Stable.ROLLING
    assert scene(status=tuning(state, **NAMED)).stable is Stable.SETTLED


def test_pods_are_not_settled_while_the_plan_before_a_promoted_one_is_yet_to_be_restored() -> None:
    after = Revisions([*RECORDS, TRIAL_RECORD, pin(promoted(SERVER, 3, TRIAL_RECORD, TRIAL))])
    assert after.in_force is not None
    settled = replace(CALM, template=after.in_force.template)
    pods = [replace(pod, template=after.in_force.template) for pod in STABLE]
    for state, stable in (("RollingBack", Stable.ROLLING), ("Verifying", Stable.SETTLED)):
        status = tuning(state, revision=TRIAL.name)
        seen = scene(*pods, deployment=settled, status=status, revisions=after)
        assert seen.stable is stable


@pytest.mark.parametrize("facts", [{"deleting": True}, {"failed": True}, {"ready": False}], ids=str)
def test_a_pod_that_goes_or_does_not_serve_is_one_too_few(facts: dict[str, Any]) -> None:
    seen = scene(STABLE[0], replace(STABLE[1], **facts))
    assert seen.stable is Stable.SHORT
    assert seen.pods == {"a"}


def test_pods_are_settled_since_the_youngest_became_ready_unless_something_stands_in_the_way() -> (
    None
):
    young = replace(STABLE[1], ready_since="2026-01-01T00:00:40Z")
    old = replace(STABLE[0], ready_since="2026-01-01T00:00:10Z")
    assert scene(young, old).settled_since == NOW.timestamp() + 40
    assert scene(young, old, deployment=replace(CALM, paused=True)).settled_since is None


# The trial's pod


@pytest.mark.parametrize(
    ("facts", "candidate"),
    [
        ({}, Candidate.READY),
        ({"scheduled": False, "ready": False}, Candidate.PENDING),
        ({"ready": False}, Candidate.RUNNING),
        ({"ready": False, "restarts": 1}, Candidate.CRASHED),
        ({"ready": False, "waiting_reason": "CrashLoopBackOff"}, Candidate.CRASHED),
        (
            {"ready": False, "restarts": 1, "last_exit": "last exit code 137 (OOMKilled)"},
            Candidate.OUT_OF_MEMORY,
        ),
    ],
)
def test_the_trial_s_pod_is_told_as_far_as_it_came(
    facts: dict[str, Any], candidate: Candidate
) -> None:
    assert scene(*STABLE, replace(TRIED, **facts), deployment=held()).candidate is candidate


def test_a_trial_s_pod_that_had_been_ready_and_is_not_is_unready() -> None:
    loads = replace(TRIED, ready=False)
    known = scene(*STABLE, loads, deployment=held(), status=tuning("Judging", pod="t"))
    assert known.candidate is Candidate.UNREADY
    other = scene(*STABLE, loads, deployment=held(), status=tuning("Judging", pod="before"))
    assert other.candidate is Candidate.RUNNING


def test_a_trial_that_is_held_without_a_pod_waits_for_one() -> None:
    assert scene(*STABLE, deployment=held()).candidate is Candidate.PENDING


def test_a_pod_that_found_no_room_for_the_surge_timeout_is_told_so() -> None:
    seen = scene(*STABLE, WAITS, deployment=held(), seconds=121)
    assert (seen.candidate, seen.change) == (Candidate.NO_ROOM, Change.NONE)


@pytest.mark.parametrize("state", ["Promoting", "Verifying"])
def test_while_a_setting_is_promoted_the_worst_pod_of_its_plan_is_told(state: str) -> None:
    status = tuning(state, revision=TRIAL.name, parent=TRIAL.parent)
    for facts, candidate in (
        ({}, Candidate.READY),
        ({"restarts": 1}, Candidate.CRASHED),
        ({"ending": ENDING}, Candidate.CRASHED),
        ({"ending": ENDING, "last_exit": "OOMKilled"}, Candidate.OUT_OF_MEMORY),
    ):
        assert scene(STABLE[0], replace(STABLE[1], **facts), status=status).candidate is candidate


# What became of the server


@pytest.mark.parametrize(
    ("deployment", "server", "change"),
    [
        (held(surroundings="others"), SERVER, Change.DISTURBED),
        (held(), tuned_server(4), Change.SCALED),
        (held(replace(MARK, parent="qwen-0")), SERVER, Change.REPLANNED),
        (held(replace(MARK, in_place=MARK.began)), SERVER, Change.DISTURBED),
        (held(), SERVER, Change.NONE),
    ],
    ids=["disturbed", "scaled", "replanned", "forbidden", "nothing"],
)
def test_what_ends_a_held_trial_is_told_as_what_happened_to_the_server(
    deployment: ChildRecord, server: VLLMServer, change: Change
) -> None:
    assert scene(*STABLE, TRIED, deployment=deployment, server=server).change is change


@pytest.mark.parametrize("state", ["Starting", "Warming", "Judging"])
def test_a_trial_is_of_the_plan_in_force_and_of_the_specification_as_it_stands(state: str) -> None:
    assert IN_FORCE is not None
    for parent, server, change in (
        (IN_FORCE.name, SERVER, Change.NONE),
        (None, SERVER, Change.NONE),
        ("another", SERVER, Change.REPLANNED),
        (IN_FORCE.name, make_server(replicas=2, model={"id": "a/b"}), Change.REPLANNED),
    ):
        status = tuning(state, parent=parent)
        assert scene(server=server, status=status).change is change


@pytest.mark.parametrize("state", ["Promoting", "Verifying"])
def test_a_promoted_plan_is_the_trial_s_or_still_the_one_before_it(state: str) -> None:
    assert IN_FORCE is not None
    after = Revisions([*RECORDS, TRIAL_RECORD, pin(promoted(SERVER, 3, TRIAL_RECORD, TRIAL))])
    promoting = tuning(state, revision=TRIAL.name, parent=IN_FORCE.name)
    assert scene(status=promoting).change is Change.NONE
    assert scene(status=promoting, revisions=after).change is Change.NONE
    other = tuning(state, revision=TRIAL.name, parent="another")
    assert scene(status=other).change is Change.REPLANNED
    assert scene(status=tuning("Settled", parent="another")).change is Change.NONE


def test_what_ended_a_stable_pod_once_is_no_fault_of_a_trial_that_is_yet_to_be_promoted() -> None:
    pods = [*(replace(one, restarts=1, last_exit="OOMKilled") for one in STABLE), TRIED]
    seen = scene(*pods, deployment=held(), status=tuning("Promoting", **NAMED))
    assert seen.candidate is Candidate.READY


@pytest.mark.parametrize(
    "facts", [{"ready": False}, {"restarts": 1, "ready": False}, {"scheduled": False}], ids=str
)
def test_a_trial_that_serves_no_more_before_it_is_promoted_is_unready(
    facts: dict[str, Any],
) -> None:
    status = tuning("Promoting", **NAMED)
    lost = replace(TRIED, **facts)
    assert scene(*STABLE, lost, deployment=held(), status=status).candidate is Candidate.UNREADY
    assert scene(*STABLE, deployment=held(), status=status).candidate is Candidate.UNREADY


def test_a_trial_that_runs_out_of_memory_before_it_is_promoted_is_told_so() -> None:
    pods = [*STABLE, replace(TRIED, restarts=1, last_exit="OOMKilled")]
    seen = scene(*pods, deployment=held(), status=tuning("Promoting", **NAMED))
    assert seen.candidate is Candidate.OUT_OF_MEMORY


def test_a_promotion_that_is_pinned_and_not_applied_yet_is_no_other_plan() -> None:
    after = Revisions([*RECORDS, TRIAL_RECORD, pin(promoted(SERVER, 3, TRIAL_RECORD, TRIAL))])
    for revision, change in ((TRIAL.name, Change.NONE), ("another", Change.REPLANNED)):
        status = tuning("Promoting", revision=revision)
        seen = scene(*STABLE, TRIED, deployment=held(), status=status, revisions=after)
        assert seen.change is change


def test_a_kept_trial_is_told_with_its_start_its_kind_and_whether_it_was_taken_over() -> None:
    (kept,) = scene().revisions
    assert (kept.started, kept.kind, kept.promoted) == (NOW.timestamp(), "", False)
    after = Revisions([*RECORDS, TRIAL_RECORD, pin(promoted(SERVER, 3, TRIAL_RECORD, TRIAL))])
    assert scene(revisions=after).revisions[0].promoted


# What is asked for


INPUTS = PlanningInputs(None, "i").to_json_object()
FACTS = cast(Facts, SimpleNamespace(knobs=Knobs(256, 8192, 0.92)))


def asked(
    state: str, deployment: ChildRecord = CALM, *, news: bool = False, **trial: Any
) -> Wanted:
    kept = Revisions([pin(controller_revision(SERVER, 1, INPUTS, STABLE_PLAN)), TRIAL_RECORD])
    seen = world(status=tuning(state, **trial), deployment=deployment, revisions=kept)
    return wanted_of(seen.remembered.status.tuning, seen, FACTS, news=news)


NAMED = {"revision": "q-2"}


@pytest.mark.parametrize(
    ("state", "deployment", "trial", "wanted"),
    [
        ("Promoting", CALM, NAMED, Wanted(Wants.PROMOTED, "q-2")),
        ("RollingBack", CALM, NAMED, Wanted(Wants.STABLE, "q-2")),
        ("CoolingDown", CALM, NAMED, Wanted()),
        ("Judging", held(), NAMED, Wanted(Wants.TRIAL, "q-2")),
        ("Starting", held(), NAMED, Wanted(Wants.TRIAL, "q-2")),
        ("Judging", CALM, NAMED, Wanted(Wants.TRIAL, "q-2")),
        ("Judging", CALM, {}, Wanted()),
        ("Starting", CALM, {**NAMED, "replaced": True}, Wanted(Wants.TRIAL, "q-2")),
    ],
)
def test_what_the_status_says_is_asked_for_by_the_name_of_the_trial(
    state: str, deployment: ChildRecord, trial: dict[str, Any], wanted: Wanted
) -> None:
    assert asked(state, deployment, **trial) == wanted


@pytest.mark.parametrize(
    ("state", "deployment", "wanted"),
    [
        ("Proposed", CALM, Wanted()),
        ("Starting", CALM, Wanted()),
        ("Judging", held(), Wanted(Wants.TRIAL, "q-2")),
        ("Promoting", CALM, Wanted()),
        ("Verifying", CALM, Wanted()),
        ("RollingBack", CALM, Wanted()),
    ],
)
def test_what_the_status_is_yet_to_say_is_not_begun(
    state: str, deployment: ChildRecord, wanted: Wanted
) -> None:
    assert asked(state, deployment, news=True, **NAMED) == wanted


def test_a_trial_that_starts_is_asked_for_with_its_setting_and_its_why() -> None:
    evidence = {"intervals": 1, "requests": 2, "batchLow": 3, "batchHigh": 4}
    wanted = asked(
        "Starting",
        evidence={**evidence, "deviationPerMille": 5},
        predicted={"interTokenLatencyPerMille": {"low": 1, "expected": 2, "high": 3}},
    )
    assert (wanted.wants, wanted.trial) == (Wants.TRIAL, "")
    candidate = wanted.candidate
    assert candidate is not None
    assert candidate.tuned == Tuned("max-num-seqs 256 -> 96: gaps are late", max_num_seqs=96)
    assert (candidate.trigger, candidate.proposed_at) == ("Sequences", AT)
    assert candidate.predicted == {
        "interTokenLatencyPerMille": {"low": 1, "expected": 2, "high": 3}
    }
    assert IN_FORCE is not None
    assert IN_FORCE.plan is not None
    kind = kind_of(SERVER, IN_FORCE.plan)
    assert candidate.evidence == {"kind": kind, **evidence, "deviationPerMille": 5}


def test_nothing_is_asked_for_where_nothing_is_tried() -> None:
    assert wanted_of(None, world(), FACTS, news=False) == Wanted()


@pytest.mark.parametrize("state", ["Starting", "Judging", "Verifying", "RollingBack"])
def test_the_trial_that_was_pinned_since_it_was_proposed_gets_its_name_into_the_status(
    state: str,
) -> None:
    found = with_revision(world(status=tuning(state)))
    assert found is not None
    assert found.trial is not None
    assert (found.trial.revision, found.trial.parent) == (TRIAL.name, TRIAL.parent)


@pytest.mark.parametrize(
    ("state", "trial", "revision"),
    [
        ("Starting", {"proposedAt": "2026-01-01T00:00:01Z"}, None),
        ("Proposed", {}, None),
        ("Starting", {"revision": "known"}, "known"),
    ],
)
def test_an_earlier_trial_is_not_the_one_that_begins(
    state: str, trial: dict[str, Any], revision: str | None
) -> None:
    found = with_revision(world(status=tuning(state, **trial)))
    assert isinstance(found, Tuning)
    assert found.trial is not None
    assert found.trial.revision == revision


# What is known of the plan in force


def planned(**spec: Any) -> tuple[VLLMServer, Pinned]:
    """A server of an H100, and the plan of it that is in force."""
    server = make_server(**{"gpu": {"product": "H100"}, **spec})
    inputs = inputs_for(server)
    assert IN_FORCE is not None
    sized = Sized(make_plan_of(server, inputs), OFFER)
    return server, replace(IN_FORCE, sized=sized, inputs=inputs.to_json_object())


def facts(**spec: Any) -> Facts:
    found = facts_of(*planned(**spec))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("product", "version", "largest"),
    [("B200", "0.33.0", 1024), ("B200", "0.27.1", 512), ("RTX-5090", "0.33.0", 512)],
)
def test_the_largest_graph_is_that_of_the_gpu_and_the_release(
    product: str, version: str, largest: int
) -> None:
    found = facts(gpu={"product": product}, engine={"version": version})
    assert found.rules.graphs == (largest, False)


@pytest.mark.parametrize("seqs", [8, 24, 256])
@pytest.mark.parametrize("tokens", [64, 400])
def test_a_largest_graph_that_is_asked_for_is_that_of_every_setting(seqs: int, tokens: int) -> None:
    words = [f"--max-cudagraph-capture-size={tokens}"]
    found = facts(engine={"version": "0.32.0", "extraArgs": words})
    assert found.rules.graphs == (tokens, True)
    assert captured(found.server(Knobs(seqs, 8192, 0.9))) == tokens


def test_a_plan_that_takes_several_nodes_or_cannot_be_read_is_not_described() -> None:
    server, in_force = planned()
    assert facts_of(server, in_force) is not None
    assert facts_of(server, replace(in_force, sized=None)) is None
    assert facts_of(server, replace(in_force, objects=({"kind": "LeaderWorkerSet"},))) is None


def test_without_pins_and_bounds_each_flag_may_be_tuned() -> None:
    found = facts(engine={"version": "0.30.0"})
    assert found.rules == Rules(
        active_seqs=False,
        graphs=Graphs(512),
        cold_seconds=found.rules.cold_seconds,
        warm_seconds=found.rules.cold_seconds,
    )
    plan = planned(engine={"version": "0.30.0"})[1].plan
    assert plan is not None
    assert found.rules.cold_seconds == plan.startup.seconds
    assert found.objective is None
    assert facts(engine={"version": "0.32.0"}).rules.active_seqs


@pytest.mark.parametrize(
    ("pins", "pinned"),
    [
        ({"maxNumSeqs": 64}, (True, False, False)),
        ({"maxNumActiveSeqs": 64, "version": "0.32.0"}, (True, False, False)),
        ({"maxNumBatchedTokens": 2048}, (False, True, False)),
        ({"gpuMemoryUtilization": 0.8}, (False, False, True)),
        ({"maxModelLen": 4096}, (False, False, False)),
    ],
)
def test_a_pin_keeps_its_own_flag(pins: dict[str, Any], pinned: tuple[bool, ...]) -> None:
    rules = facts(engine=pins).rules
    assert (rules.pinned_seqs, rules.pinned_tokens, rules.pinned_utilization) == pinned


def test_bounds_are_those_of_their_own_flag() -> None:
    bounds = {
        "maxNumSeqs": {"min": 1, "max": 2},
        "maxNumBatchedTokens": {"min": 16, "max": 4000},
        "gpuMemoryUtilization": {"min": 0.5, "max": 0.6},
    }
    rules = facts(autotune={"bounds": bounds}).rules
    assert (rules.seqs, rules.tokens, rules.utilization) == (
        Range(1, 2),
        Range(16, 4000),
        Range(0.5, 0.6),
    )


def test_the_plan_in_force_is_what_is_measured_against() -> None:
    found = facts(workload={"slo": {"interTokenLatencyMilliseconds": 30}})
    plan = planned()[1].plan
    assert plan is not None
    assert found.knobs == knobs_in_force(plan)
    assert found.objective == Objective(None, 0.03, 95.0)
    assert found.pod_kv_tokens == plan.capacity.kv_tokens.expected
    limits = found.server_at(Knobs(40, 3000, 0.9, 30)).limits
    assert (limits.sequences, limits.tokens) == (30, 3000)


def test_another_setting_is_planned_with_the_pinned_inputs_and_the_length_in_force() -> None:
    found = facts()
    plan = planned()[1].plan
    assert plan is not None
    same = found.plan_at(found.knobs)
    assert isinstance(same, Planned)
    assert same.kv_tokens == plan.capacity.kv_tokens.low
    fewer = found.plan_at(replace(found.knobs, max_num_batched_tokens=2048))
    assert isinstance(fewer, Planned)
    assert fewer.kv_tokens > same.kv_tokens  # a smaller peak leaves more
    assert fewer.ceiling == same.ceiling >= found.knobs.gpu_memory_utilization


def test_a_setting_that_a_stated_load_bounds_is_refused() -> None:
    found = facts(workload={"promptTokens": 100, "outputTokens": 100, "concurrency": 100})
    refused = found.plan_at(replace(found.knobs, max_num_seqs=10))
    assert refused == Refused("memory or a stated load bounds it")
