"""What a new plan takes over of what was learned, and what of it an edit keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import make_server
from support.observed import PLAN
from vllm_operator.lifecycle.learned import Learned, taken_over
from vllm_operator.lifecycle.revisions import Abandoned
from vllm_operator.sizing.asked.repairs import Repair

REPAIR = Repair("fewerSequences", 64, "it did not fit")
LEARNED = Learned((REPAIR,))
IN_FORCE = replace(PLAN, inputs={"repairs": [REPAIR.to_json_object()]})


@pytest.mark.parametrize(
    "edit",
    [
        {"pod": {"labels": {"a": "b"}}},
        {"replicas": 3},
        {"rollout": {"drainSeconds": 5}},
        {"workload": {"slo": {"interTokenLatencyMilliseconds": 30}}},
        {"autotune": {"mode": "Recommend"}},
    ],
)
def test_an_edit_of_what_no_engine_starts_with_keeps_repairs(edit: dict[str, Any]) -> None:
    assert LEARNED.after(make_server().spec, make_server(**edit).spec) == LEARNED
    assert taken_over(make_server(**edit), IN_FORCE) == LEARNED


@pytest.mark.parametrize(
    "edit",
    [
        {"model": {"id": "c/d"}},
        {"gpu": {"product": "H200"}},
        {"parallelism": {"tensor": 2}},
        {"engine": {"maxNumSeqs": 8}},
        {"workload": {"concurrency": 8}},
    ],
)
def test_an_edit_of_what_the_engine_starts_with_begins_afresh(edit: dict[str, Any]) -> None:
    assert LEARNED.after(make_server().spec, make_server(**edit).spec) == Learned()
    assert taken_over(make_server(**edit), IN_FORCE) == Learned()


def test_a_plan_that_is_asked_for_outright_begins_afresh() -> None:
    server = make_server()
    server.metadata.annotations["vllm-operator.io/replan"] = "now"
    assert taken_over(server, IN_FORCE) == Learned()


@pytest.mark.parametrize(("stopped", "kept"), [(True, Learned()), (False, LEARNED)])
def test_repairs_that_did_not_help_are_dropped_and_those_of_a_plan_that_serves_stay(
    stopped: bool, kept: Learned
) -> None:
    given_up = Abandoned(make_server().spec, None, "OOMKilled", "too little", stopped, "")
    assert taken_over(make_server(), replace(IN_FORCE, abandoned=given_up)) == kept


def test_nothing_in_force_has_learned_nothing() -> None:
    assert taken_over(make_server(), None) == Learned()
