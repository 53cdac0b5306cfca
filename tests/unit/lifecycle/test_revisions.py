"""What is pinned, and what asks for a new plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import make_plan, make_planned, make_server, make_sized
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.reading import revision_record
from vllm_operator.lifecycle.records import RevisionRecord, pack
from vllm_operator.lifecycle.revisions import (
    Abandoned,
    Relation,
    controller_revision,
    given_up,
    pinned,
    plan_hash,
    pod_hash,
    relation,
    taken_back,
)

MODEL = {"id": "a/b"}
TEMPLATE = {"annotations": {"vllm-operator.io/template-hash": "1-a"}}
ABANDONED = Abandoned(make_server().spec, None, "OOMKilled", "too little", False, "")
OBJECTS = ({"kind": "X", "metadata": TEMPLATE},)


def pin(server: VLLMServer, revision: int = 1) -> RevisionRecord:
    body = controller_revision(server, revision, {"offers": []}, make_planned(*OBJECTS))
    body["metadata"].update(uid=f"r{revision}", resourceVersion="1")
    return revision_record(body)


def test_a_pinned_plan_comes_back_as_it_was() -> None:
    found = pinned(pin(make_server()))
    assert found.sized == make_sized()
    assert (found.objects, found.template) == (OBJECTS, "1-a")
    assert found.is_for(make_server())


def test_a_plan_whose_gpus_cannot_be_read_is_another_release_s() -> None:
    record = pin(make_server())
    rest = {name: value for name, value in record.data().items() if name != "gpu"}
    found = pinned(replace(record, packed=pack(rest)))
    assert found.plan is None
    assert found.objects == OBJECTS


def back(good: VLLMServer, refused: VLLMServer, *, stopped: bool = False) -> RevisionRecord:
    abandoned = Abandoned(refused.spec, None, "OOMKilled", "too little", stopped, "qwen-2")
    body = given_up(refused, 3, pin(good), abandoned)
    body["metadata"].update(uid="r3", resourceVersion="1")
    return revision_record(body)


def test_the_plan_before_is_in_force_again_and_says_what_it_stands_in_for() -> None:
    good, refused = make_server(model=MODEL), make_server(model={"id": "c/d"})
    found = pinned(back(good, refused))
    assert (found.revision, found.plan) == (3, make_plan())
    assert relation(found, refused) is Relation.STANDS_IN
    assert found.abandoned is not None
    assert (found.abandoned.reason, found.abandoned.message) == ("OOMKilled", "too little")
    assert relation(found, make_server(model={"id": "e/f"})) is Relation.OUTDATED


@pytest.mark.parametrize(
    "unreadable",
    [None, "text", {}, {"reason": "OOMKilled"}, {**ABANDONED.to_json_object(), "spec": {"x": 1}}],
)
def test_what_a_plan_stands_in_for_may_be_unreadable_and_the_plan_is_not(unreadable: Any) -> None:
    record = pin(make_server())
    found = pinned(replace(record, packed=pack({**record.data(), "abandoned": unreadable})))
    assert found.abandoned is None
    assert found.sized == make_sized()


def test_a_plan_without_one_before_it_is_stopped_until_the_specification_changes() -> None:
    found = pinned(back(make_server(model=MODEL), make_server(model=MODEL), stopped=True))
    assert relation(found, make_server(model=MODEL, replicas=3)) is Relation.STOPPED
    assert relation(found, make_server(model={"id": "c/d"})) is Relation.OUTDATED
    again = make_server(model=MODEL)
    again.metadata.annotations["vllm-operator.io/replan"] = "now"
    assert relation(found, again) is Relation.OUTDATED


def test_a_plan_stands_for_itself_when_it_is_wanted_again() -> None:
    good, refused = make_server(model=MODEL), make_server(model={"id": "c/d"})
    record = back(good, refused)
    assert relation(pinned(record), good) is Relation.WANTED_AGAIN
    body = taken_back(good, 4, record)
    body["metadata"].update(uid="r4", resourceVersion="1")
    assert relation(pinned(revision_record(body)), good) is Relation.CURRENT


def test_nothing_in_force_is_a_relation_too() -> None:
    assert relation(None, make_server()) is Relation.ABSENT


def test_a_change_of_the_pod_alone_keeps_the_plan() -> None:
    after = make_server(pod={"labels": {"a": "b"}})
    assert relation(pinned(pin(make_server())), after) is Relation.OTHER_POD


def test_the_plan_to_go_back_to_outlives_the_history() -> None:
    records = [pin(make_server(), number) for number in range(1, 8)]
    kept = Revisions(records, last_ready=records[0].name)
    assert [one.revision for one in kept.expendable()] == [2]
    assert kept.last_ready is not None
    assert kept.last_ready.revision == 1


def test_the_plan_that_was_given_up_outlives_the_history() -> None:
    records = [pin(make_server(), number) for number in range(1, 7)]
    body = given_up(make_server(), 7, records[5], ABANDONED)
    body["metadata"].update(uid="r7", resourceVersion="1")
    body["data"]["abandoned"]["revision"] = records[1].name
    kept = Revisions([*records, revision_record(body)])
    assert [one.revision for one in kept.expendable()] == [1]


def test_the_plan_before_is_the_newest_that_was_in_force_before() -> None:
    records = [pin(make_server(), number) for number in (1, 2, 4)]
    kept = Revisions(records)
    assert kept.in_force is not None
    assert kept.before is not None
    assert (kept.in_force.revision, kept.before.revision, kept.next_number) == (4, 2, 5)


def test_a_plan_that_cannot_be_read_is_not_in_force_and_is_named() -> None:
    broken = pin(make_server(), 2)
    records = [pin(make_server(), 1), replace(broken, packed=pack({}))]
    kept = Revisions(records)
    assert kept.in_force is not None
    assert kept.in_force.revision == 1
    assert [one.revision for one in kept.unreadable] == [2]
    assert kept.next_number == 3


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 7},
        {"paused": True},
        {"rollout": {"strategy": "InPlace"}},
        {"workload": {"slo": {"interTokenLatencyMilliseconds": 30}}},
        {"autotune": {"mode": "Recommend"}},
    ],
)
def test_what_acts_at_once_needs_no_new_plan(spec: dict[str, Any]) -> None:
    assert pinned(pin(make_server(model=MODEL))).is_for(make_server(model=MODEL, **spec))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"gpuMemoryUtilization": 1e-1}, {"gpuMemoryUtilization": 0.10}),
        ({"maxNumSeqs": 64}, {"maxNumSeqs": 64, "maxModelLen": None}),
    ],
)
def test_spellings_of_one_specification_have_one_hash(one: Any, other: Any) -> None:
    assert plan_hash(make_server(engine=one).spec) == plan_hash(make_server(engine=other).spec)


def test_free_form_facts_that_mean_the_same_have_one_hash() -> None:
    one = {"id": "a/b", "config": {"rope_theta": 1e6, "sliding_window": None, "x": 1}}
    other = {"id": "a/b", "config": {"x": 1, "rope_theta": 1_000_000}}
    assert plan_hash(make_server(model=one).spec) == plan_hash(make_server(model=other).spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"engine": {"maxNumSeqs": 64}},
        {"gpu": {"product": "H100"}},
        {"rollout": {"drainSeconds": 5}},
        {"model": {"id": "c/d"}},
    ],
)
def test_what_planning_reads_asks_for_a_new_plan(spec: dict[str, Any]) -> None:
    assert not pinned(pin(make_server())).is_for(make_server(**spec))


def test_a_change_of_the_pod_asks_for_new_objects_and_not_for_a_new_plan() -> None:
    before, after = make_server().spec, make_server(pod={"labels": {"a": "b"}}).spec
    assert plan_hash(before) == plan_hash(after)
    assert pod_hash(before) != pod_hash(after)


def test_a_change_of_the_annotation_asks_for_a_new_plan() -> None:
    server = make_server()
    annotated = server.metadata.model_copy(
        update={"annotations": {"vllm-operator.io/replan": "now"}}
    )
    assert not pinned(pin(server)).is_for(server.model_copy(update={"metadata": annotated}))


def test_the_history_is_bounded_and_loses_its_oldest() -> None:
    records = [pin(make_server(), number) for number in range(1, 8)]
    assert [record.revision for record in Revisions(records).expendable()] == [1, 2]


def test_a_successor_of_the_same_name_has_other_revision_names() -> None:
    assert pin(make_server(uid="one")).name != pin(make_server(uid="two")).name
