"""What a failed start is taken for, beyond the words of its log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.builders import make_sized
from support.observed import DEPLOYMENT, FAILED, PLAN
from vllm_operator.engine.failures import Failure
from vllm_operator.engine.versions import Version
from vllm_operator.lifecycle.diagnoses import (
    crashed,
    failure_of_objects,
    failure_to_wait,
    is_news,
    lost_pod,
)
from vllm_operator.lifecycle.records import PodRecord

RELEASE = Version.parse("0.30.0")
LOST = replace(FAILED, name="lost", failed=True, failure="Evicted: the node was low on memory. ")
LATER = replace(FAILED, created_at="2026-01-01T10:05:00Z")
REFUSED = replace(
    DEPLOYMENT,
    ready_replicas=0,
    message="exceeded quota: g, requested: g=2, used: g=7, limited: g=8",
)
STAYS = Failure("KVCacheTooSmall", "too small", "lower it", passes=False)
PASSES = Failure("GPUMemoryTaken", "little is free", "wait")


def test_the_newest_pod_that_its_node_ended_is_told_of() -> None:
    assert lost_pod(PLAN, [LOST, replace(LOST, name="z"), LATER]) == replace(LOST, name="z")


def test_a_pod_that_was_lost_is_no_news_once_a_later_one_is_ready() -> None:
    assert lost_pod(PLAN, [LOST, replace(LATER, ready=True)]) is None


@pytest.mark.parametrize(
    "other",
    [replace(LOST, template="1-b"), replace(LOST, created_at="2026-01-01T09:00:00Z")],
    ids=["another plan's", "of a time before"],
)
def test_a_lost_pod_of_another_plan_or_time_tells_nothing_of_this_plan(other: PodRecord) -> None:
    assert lost_pod(PLAN, [other]) is None


def test_the_node_is_told_before_what_the_deployment_says() -> None:
    found = failure_of_objects(PLAN, REFUSED, [LOST], RELEASE)
    assert found is not None
    assert found.reason == "PodEvicted"


def test_what_the_api_server_refused_the_deployment_is_told_where_no_pod_was_lost() -> None:
    found = failure_of_objects(PLAN, REFUSED, [], RELEASE)
    assert found is not None
    assert found.reason == "QuotaExceeded"


def test_a_deployment_that_has_not_seen_its_last_change_says_nothing_yet() -> None:
    assert failure_of_objects(PLAN, replace(REFUSED, observed_generation=0), [], RELEASE) is None


def test_a_lost_pod_tells_nothing_where_all_replicas_are_ready() -> None:
    assert failure_of_objects(PLAN, DEPLOYMENT, [LOST], RELEASE) is None


OF_IMAGE = replace(
    PLAN,
    sized=make_sized(
        storage={"kind": "Image", "source": "reg/qwen:1", "mode": "Model", "surge": True}
    ),
)


def test_a_pull_of_the_image_that_holds_the_model_is_told_with_its_own_field() -> None:
    found = failure_to_wait('ErrImagePull: image "reg/qwen:1": not found', OF_IMAGE, RELEASE)
    assert found is not None
    assert (found.field, found.message) == (
        "spec.model.storage.image.reference",
        "reg/qwen:1, which holds the model: the registry has no such image; correct "
        "spec.model.storage.image.reference",
    )


def test_a_pull_of_the_engine_s_image_is_the_engine_s_beside_one_that_holds_the_model() -> None:
    found = failure_to_wait('ErrImagePull: image "reg/vllm:1": not found', OF_IMAGE, RELEASE)
    assert found is not None
    assert found.field == "spec.engine.image"


def test_an_engine_that_had_served_is_started_again_as_it_is() -> None:
    found = crashed(replace(STAYS, repair="shorterMaxModelLen"))
    assert (found.reason, found.passes, found.repair) == ("KVCacheTooSmall", True, "none")


def test_an_unknown_failure_of_an_engine_that_had_served_is_a_crash() -> None:
    assert crashed(Failure("EngineFailed", "it ended", "look")).reason == "EngineCrashed"


@pytest.mark.parametrize(
    ("failure", "said", "news"),
    [
        (replace(STAYS, means="another number"), STAYS, False),
        (PASSES, STAYS, False),
        (STAYS, PASSES, True),
        (replace(PASSES, reason="PodEvicted"), PASSES, True),
        (replace(STAYS, reason="GPUOutOfMemory"), STAYS, True),
    ],
    ids=["of the same reason", "passes after what stays", "stays", "passes too", "stays too"],
)
def test_a_failure_is_news_unless_it_repeats_or_only_follows_one_that_stays(
    failure: Failure, said: Failure, news: bool
) -> None:
    assert is_news(failure, said) is news
