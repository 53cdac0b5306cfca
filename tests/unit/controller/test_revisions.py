"""What is pinned, and what asks for a new plan."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_plan, make_server
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.controller.records import RevisionRecord, revision_record
from vllm_operator.controller.revisions import (
    Refusal,
    controller_revision,
    expired,
    given_up,
    pinned,
    plan_hash,
    pod_hash,
    taken_back,
)

MODEL = {"id": "a/b"}
TEMPLATE = {"annotations": {"vllm-operator.io/template-hash": "1-a"}}
OBJECTS = ({"kind": "X", "metadata": TEMPLATE},)


def pin(server: VLLMServer, revision: int = 1) -> RevisionRecord:
    body = controller_revision(server, revision, {"offers": []}, make_plan(), OBJECTS)
    body["metadata"].update(uid=f"r{revision}", resourceVersion="1")
    return revision_record(body)


def test_a_pinned_plan_comes_back_as_it_was() -> None:
    found = pinned(pin(make_server()))
    assert found.plan == make_plan()
    assert (found.objects, found.template) == (OBJECTS, "1-a")
    assert found.serves(make_server())


def back(good: VLLMServer, refused: VLLMServer, *, stopped: bool = False) -> RevisionRecord:
    refusal = Refusal(refused.spec, None, "OOMKilled", "too little", stopped)
    body = given_up(refused, 3, pin(good), refusal)
    body["metadata"].update(uid="r3", resourceVersion="1")
    return revision_record(body)


def test_the_plan_before_is_in_force_again_and_says_what_it_stands_in_for() -> None:
    good, refused = make_server(model=MODEL), make_server(model={"id": "c/d"})
    found = pinned(back(good, refused))
    assert (found.revision, found.plan) == (3, make_plan())
    assert found.serves(good)
    assert not found.stopped(good)
    refusal = found.refused(refused)
    assert refusal is not None
    assert (refusal.reason, refusal.message) == ("OOMKilled", "too little")
    assert found.refused(make_server(model={"id": "e/f"})) is None


def test_a_plan_without_one_before_it_is_stopped_until_the_specification_changes() -> None:
    found = pinned(back(make_server(model=MODEL), make_server(model=MODEL), stopped=True))
    assert found.stopped(make_server(model=MODEL, replicas=3))
    assert not found.stopped(make_server(model={"id": "c/d"}))
    again = make_server(model=MODEL)
    again.metadata.annotations["vllm-operator.io/replan"] = "now"
    assert not found.stopped(again)


def test_a_refusal_ends_when_the_plan_in_force_is_wanted_again() -> None:
    good, refused = make_server(model=MODEL), make_server(model={"id": "c/d"})
    record = back(good, refused)
    assert pinned(record).is_taken_back(good)
    assert not pinned(record).is_taken_back(refused)
    body = taken_back(good, 4, record)
    body["metadata"].update(uid="r4", resourceVersion="1")
    assert pinned(revision_record(body)).refused(refused) is None


def test_the_plan_to_go_back_to_outlives_the_history() -> None:
    records = [pin(make_server(), number) for number in range(1, 8)]
    assert [one.revision for one in expired(records, good=records[0].name)] == [2]


@pytest.mark.parametrize(
    "spec", [{"replicas": 7}, {"paused": True}, {"rollout": {"strategy": "InPlace"}}]
)
def test_what_acts_at_once_needs_no_new_plan(spec: dict[str, Any]) -> None:
    assert pinned(pin(make_server(model=MODEL))).serves(make_server(model=MODEL, **spec))


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
    assert not pinned(pin(make_server())).serves(make_server(**spec))


def test_a_change_of_the_pod_asks_for_new_objects_and_not_for_a_new_plan() -> None:
    before, after = make_server().spec, make_server(pod={"labels": {"a": "b"}}).spec
    assert plan_hash(before) == plan_hash(after)
    assert pod_hash(before) != pod_hash(after)


def test_a_change_of_the_annotation_asks_for_a_new_plan() -> None:
    server = make_server()
    annotated = server.metadata.model_copy(
        update={"annotations": {"vllm-operator.io/replan": "now"}}
    )
    assert not pinned(pin(server)).serves(server.model_copy(update={"metadata": annotated}))


def test_the_history_is_bounded_and_loses_its_oldest() -> None:
    records = [pin(make_server(), number) for number in range(1, 8)]
    assert [record.revision for record in expired(records)] == [1, 2]


def test_a_successor_of_the_same_name_has_other_revision_names() -> None:
    assert pin(make_server(uid="one")).name != pin(make_server(uid="two")).name
