"""Workloads that are drawn by a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import support_draw
from support_draw import drawn

from enginesimulator.sweep import Outcome


def probe(workload: Mapping[str, Any], clients: int) -> Outcome:
    """A pod that gives 2,000 tokens a second, 20 ms apart."""
    tokens = 2000.0 * workload["server"]["replicas"]
    never = {"cap_bound": False, "cache_bound": False, "budget_bound": False}
    return Outcome(tokens, 0.02, 0.0, 0.0, tokens, {}, **never, most_running=1, used=1)


@pytest.fixture(autouse=True)
def probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support_draw, "_probe", probe)


def test_a_seed_draws_the_same_workloads_each_time() -> None:
    assert list(drawn(3, 8)) == list(drawn(3, 8))
    assert [one["slo"] for one in drawn(3, 8)] != [one["slo"] for one in drawn(4, 8)]


def test_a_workload_does_not_depend_on_how_many_are_drawn() -> None:
    assert list(drawn(3, 8))[:3] == list(drawn(3, 3))


def test_loads_are_shares_of_what_the_server_does_in_crowds() -> None:
    for one in drawn(5, 60):
        most = 2000.0 * one["server"]["replicas"] / one["lengths"]["output"]["mean"]
        for phase in one["arrivals"]:
            assert phase["kind"] == "closed" or phase["requestsPerSecond"] <= 1.11 * most


def test_phases_fill_the_workload() -> None:
    for one in drawn(6, 60):
        assert sum(phase["minutes"] for phase in one["arrivals"]) == one["minutes"]


def test_an_objective_is_one_to_eight_times_what_one_client_meets() -> None:
    asked = [one["slo"] or {} for one in drawn(7, 60)]
    gaps = [slo.get("interTokenLatencyMilliseconds") for slo in asked]
    assert {gap for gap in gaps if gap} <= {20, 25, 30, 40, 50, 60, 80, 100, 150}
    assert None in gaps
