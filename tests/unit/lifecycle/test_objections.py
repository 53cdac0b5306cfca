"""What keeps a plan from being put in force: whether it may pass, and when it is asked again."""

from __future__ import annotations

import pytest

from support.builders import OFFER
from unit.sizing.examples import inputs_for, server
from vllm_operator.api.plan import Problem, Unplanned
from vllm_operator.errors import (
    Infeasible,
    NameConflict,
    PlanningError,
    PredecessorRemains,
    TemporaryFailure,
    UnknownGPU,
    UnknownModel,
)
from vllm_operator.lifecycle.objections import (
    Objection,
    conflicted,
    refused_by_server,
    steadied,
    unavailable,
    unexpected,
    unplannable,
)
from vllm_operator.sizing.plan.planner import unplanned

NO_GPU = UnknownGPU("spec.gpu", "there is none")
NO_CONFIG_MAP = UnknownModel("spec.model.configMapRef.name", "there is no ConfigMap x")


def objection(*errors: PlanningError, nodes_visible: bool = True, seen: bool = False) -> Objection:
    wanted = server()
    offers = (OFFER,) if seen else ()
    inputs = inputs_for(wanted, nodes_visible=nodes_visible, offers=offers)
    found = unplanned(wanted, inputs, errors)
    assert isinstance(found, Unplanned)
    return unplannable(found, inputs)


def test_a_cluster_without_gpus_may_get_some_and_its_nodes_are_watched() -> None:
    found = objection(NO_GPU)
    assert (found.waits, found.ask_again) == (True, None)


def test_a_missing_config_map_may_come_and_is_asked_for_again_after_half_a_minute() -> None:
    found = objection(NO_CONFIG_MAP)
    assert (found.waits, found.ask_again) == (True, 30.0)


@pytest.mark.parametrize(
    "found",
    [
        objection(NO_GPU, nodes_visible=False),
        objection(NO_GPU, seen=True),
        objection(NO_GPU, Infeasible("spec.engine", "too large")),
        objection(NO_CONFIG_MAP, Infeasible("spec.engine", "too large")),
    ],
    ids=["nodes are not seen", "there are other GPUs", "more is wrong", "more than the ConfigMap"],
)
def test_what_only_an_edit_mends_waits_for_nothing(found: Objection) -> None:
    assert (found.waits, found.ask_again) == (False, None)


def test_every_problem_is_told() -> None:
    told = objection(NO_GPU, Infeasible("spec.engine", "too large")).problems
    assert [problem.field for problem in told] == ["spec.gpu", "spec.engine"]


def test_a_name_of_a_deleted_server_is_free_in_a_moment_and_another_s_is_not() -> None:
    owner = "controlled by VLLMServer a"
    passes = conflicted(PredecessorRemains("Service", "a", owner))
    stays = conflicted(NameConflict("Service", "a", "not controlled by this server"))
    assert (passes.waits, passes.ask_again) == (True, 1.0)
    assert (stays.waits, stays.ask_again) == (False, 30.0)
    assert "rename this server" in stays.problems[0].message


def test_a_source_that_is_away_is_told_by_the_field_that_names_it_and_asked_again() -> None:
    found = unavailable(TemporaryFailure("timed out", "spec.model.id"))
    assert (found.waits, found.ask_again) == (True, 30.0)
    message = "timed out; asked again every 30 s"
    assert found.problems == (
        Problem(field="spec.model.id", reason="SourceUnavailable", message=message),
    )


def test_what_the_api_server_refuses_is_offered_again_and_does_not_pass_by_itself() -> None:
    found = refused_by_server("no such field")
    assert (found.waits, found.ask_again) == (False, 30.0)
    assert found.problems[0].reason == "ObjectRefused"


def test_a_defect_of_planning_is_named_as_one() -> None:
    found = unexpected(KeyError("tensor"))
    assert found.problems[0].reason == "OperatorDefect"
    assert "(KeyError: 'tensor')" in found.problems[0].message


def refused(message: str) -> Problem:
    (problem,) = refused_by_server(message).problems
    return problem


@pytest.mark.parametrize(
    "message",
    [
        "denied: request {0}c5a1f9e-0000-4000-8000-000000000000 is not allowed",
        "denied (trace {0}af7651916cd43dd8448eb211c80319c) by the policy",
        "denied at 2026-01-0{0}T10:00:00.123456Z by the policy",
    ],
    ids=["a request", "a trace", "a time"],
)
def test_a_refusal_that_only_names_another_request_is_the_one_that_was_told(message: str) -> None:
    first, second = (refused(message.format(number)) for number in (1, 2))
    assert steadied(second, [first]) == first


@pytest.mark.parametrize(
    "now", [refused("exceeded quota: used: 2"), unexpected(ValueError("used: 1")).problems[0]]
)
def test_a_refusal_with_other_numbers_or_of_another_kind_is_told_anew(now: Problem) -> None:
    assert steadied(now, [refused("exceeded quota: used: 1")]) == now
