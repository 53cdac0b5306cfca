"""The whole list: of a plan, of a server that runs, and of one that has no plan."""

from __future__ import annotations

from support.builders import make_plan, make_server
from vllm_operator.api.plan import Problem
from vllm_operator.diagnosis.checklist import Running, checklist
from vllm_operator.diagnosis.checks import Check, any_failed, failed, passed, skipped, warned
from vllm_operator.diagnosis.running import Answered

NAMES = [
    "plan",
    "quantisation",
    "prefix caching",
    "memory utilisation",
    "request length",
    "attention backend",
    "health",
    "metrics",
    "completion",
    "objective",
    "replicas",
    "disruption budget",
]


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {one.name: one for one in checks}


def test_a_file_gets_the_same_list_with_what_only_a_cluster_knows_left_out() -> None:
    found = checklist(make_server(), make_plan())
    assert [one.name for one in found] == NAMES
    skipped_ones = {one.name for one in found if one.outcome == "skip"}
    assert {"attention backend", "health", "metrics", "completion"} <= skipped_ones


def test_a_server_that_runs_gets_the_same_list() -> None:
    seen = Running(ready=None, serving=0, answered=Answered(problem="no pod serves"))
    found = by_name(checklist(make_server(), make_plan(), seen=seen))
    assert list(found) == NAMES
    assert (found["health"].outcome, found["completion"].outcome) == ("fail", "fail")


def test_a_server_without_a_plan_gets_only_why() -> None:
    problem = Problem(field="spec.gpu.product", reason="UnknownGPU", message="no such GPU")
    (check,) = checklist(make_server(), None, [problem])
    assert (check.outcome, check.field) == ("fail", "spec.gpu.product")
    assert check.why == "UnknownGPU: no such GPU"
    (other,) = checklist(make_server(), None, no_plan="it is of another release")
    assert (other.outcome, other.why) == ("fail", "it is of another release")
    (waits,) = checklist(make_server(), None)
    assert waits.why == "the operator has not planned it yet"


def test_the_budget_that_would_be_made_is_read() -> None:
    budget = {"spec": {"maxUnavailable": 1}}
    found = by_name(checklist(make_server(replicas=2), make_plan(), budget=budget))
    assert found["disruption budget"].why == "maxUnavailable 1"


def test_the_budget_that_is_there_says_how_many_pods_may_go() -> None:
    budget = {"spec": {"minAvailable": 2}, "status": {"disruptionsAllowed": 0}}
    seen = Running(ready=None, serving=2, budget=budget)
    found = by_name(checklist(make_server(replicas=2), make_plan(), seen=seen))
    assert found["disruption budget"].outcome == "warn"
    assert found["disruption budget"].why.startswith("minAvailable 2: no pod may go now")


def test_a_budget_that_may_not_be_read_is_not_judged() -> None:
    seen = Running(ready=None, serving=0, no_budget="you may not get poddisruptionbudgets")
    found = by_name(checklist(make_server(replicas=2), make_plan(), seen=seen))
    assert found["disruption budget"].outcome == "skip"


def test_only_a_failure_fails_unless_warnings_count() -> None:
    fine = [passed("a", "so"), skipped("b", "so")]
    assert not any_failed([*fine, warned("c", "so", "")])
    assert any_failed([*fine, warned("c", "so", "")], strict=True)
    assert any_failed([*fine, failed("c", "so", "")])
    assert not any_failed(fine, strict=True)
