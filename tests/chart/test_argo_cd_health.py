"""docs/argo-cd/health.lua in the Lua that Argo CD speaks, over statuses as the operator writes."""

from typing import Any

import pytest
from lupa.lua51 import LuaRuntime

from chart.support import ROOT
from vllm_operator.api.conditions import REASONS, ConditionDraft, merge_conditions

SCRIPT = (ROOT / "docs" / "argo-cd" / "health.lua").read_text()
# The base library's names that Argo CD leaves to a script; no io, no os, no load.
ALLOWED = ("ipairs", "pairs", "tostring", "type")

SETTLED = {
    "Planned": ("True", "Sized"),
    "Progressing": ("False", "Settled"),
    "Available": ("True", "ReplicasReady"),
    "UpdateAvailable": ("False", "UpToDate"),
    "Reconciling": ("False", "Settled"),
    "Stalled": ("False", "Progressing"),
    "Ready": ("True", "Ready"),
}

# What differs from a settled server, Argo CD's health, and the condition whose message it tells.
TABLE: dict[str, tuple[dict[str, tuple[str, str]], str, str]] = {
    "serving": ({}, "Healthy", "Ready"),
    "serving, and a new plan would differ": (
        {"UpdateAvailable": ("True", "PlanDiffers")},
        "Healthy",
        "Ready",
    ),
    "scaled to zero": (
        {"Available": ("False", "ScaledToZero"), "Ready": ("True", "ScaledToZero")},
        "Suspended",
        "Ready",
    ),
    "paused and serving": (
        {"Progressing": ("False", "Paused"), "Ready": ("True", "Ready")},
        "Suspended",
        "Progressing",
    ),
    "paused in the middle of a rollout": (
        {
            "Progressing": ("False", "Paused"),
            "Available": ("True", "SomeReplicasReady"),
            "Ready": ("False", "Paused"),
        },
        "Suspended",
        "Progressing",
    ),
    "paused with a specification that cannot work": (
        {
            "Planned": ("False", "IllegalPin"),
            "Progressing": ("False", "Paused"),
            "Stalled": ("True", "NotPlanned"),
            "Ready": ("False", "IllegalPin"),
        },
        "Degraded",
        "Ready",
    ),
    "an edit that cannot work, while the last good plan serves": (
        {
            "Planned": ("False", "Infeasible"),
            "Stalled": ("True", "NotPlanned"),
            "Ready": ("False", "Infeasible"),
        },
        "Degraded",
        "Ready",
    ),
    "a rollout that is stuck": (
        {
            "Progressing": ("False", "RolloutStuck"),
            "Available": ("False", "NoReplicaReady"),
            "Stalled": ("True", "RolloutStuck"),
            "Ready": ("False", "RolloutStuck"),
        },
        "Degraded",
        "Ready",
    ),
    "a rollout": (
        {
            "Progressing": ("True", "RollingOut"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "RollingOut"),
        },
        "Progressing",
        "Ready",
    ),
    "waiting for a GPU": (
        {
            "Progressing": ("True", "WaitingForGPU"),
            "Available": ("False", "NoReplicaReady"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "WaitingForGPU"),
        },
        "Progressing",
        "Ready",
    ),
    "waiting for another resource": (
        {
            "Progressing": ("True", "Unschedulable"),
            "Available": ("False", "NoReplicaReady"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "Unschedulable"),
        },
        "Progressing",
        "Ready",
    ),
    "held by a queue": (
        {
            "Progressing": ("True", "SchedulingGated"),
            "Available": ("False", "NoReplicaReady"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "SchedulingGated"),
        },
        "Progressing",
        "Ready",
    ),
    "pulling an image": (
        {
            "Progressing": ("True", "Preparing"),
            "Available": ("False", "NoReplicaReady"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "Preparing"),
        },
        "Progressing",
        "Ready",
    ),
    "loading the model": (
        {
            "Progressing": ("True", "Loading"),
            "Available": ("False", "NoReplicaReady"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "Loading"),
        },
        "Progressing",
        "Ready",
    ),
    "waiting for nodes to choose a GPU from": (
        {
            "Planned": ("False", "UnknownGPU"),
            "Progressing": ("False", "NotPlanned"),
            "Available": ("False", "NoReplicaReady"),
            "UpdateAvailable": ("Unknown", "NotPlanned"),
            "Reconciling": ("True", "Progressing"),
            "Ready": ("False", "UnknownGPU"),
        },
        "Progressing",
        "Ready",
    ),
}


def server(
    conditions: dict[str, tuple[str, str]], generation: int = 2, observed: int = 2
) -> dict[str, Any]:
    drafts = [
        ConditionDraft.model_validate(
            {"type": kind, "status": status, "reason": reason, "message": f"message of {kind}"}
        )
        for kind, (status, reason) in (SETTLED | conditions).items()
    ]
    merged = merge_conditions([], drafts, generation=observed, now="2025-01-01T00:00:00Z")
    return {
        "metadata": {"name": "qwen", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": merged},
    }


def health(obj: dict[str, Any]) -> tuple[str, str]:
    """(status, message) as the script returns them, with only the allowed names in reach."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    run = lua.eval(
        """function(script, obj, allowed)
             local names = { obj = obj }
             for _, name in ipairs(allowed) do names[name] = _G[name] end
             return setfenv(assert(loadstring(script)), names)()
           end"""
    )
    allowed = lua.table_from(ALLOWED)
    result = run(SCRIPT, lua.table_from(obj, recursive=True), allowed)
    return result["status"], result["message"]


@pytest.mark.parametrize("name", TABLE)
def test_the_health_of_a_server_that_is(name: str) -> None:
    conditions, expected, told = TABLE[name]
    assert health(server(conditions)) == (expected, f"message of {told}")


@pytest.mark.parametrize("name", TABLE)
def test_conditions_of_an_older_generation_count_for_nothing(name: str) -> None:
    status, message = health(server(TABLE[name][0], generation=3, observed=2))
    assert status == "Progressing"
    assert "last change" in message


@pytest.mark.parametrize(
    "obj",
    [
        {"metadata": {"generation": 1}},
        {"metadata": {"generation": 1}, "status": {}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": []}},
        {"metadata": {"generation": 1}, "status": {"conditions": [{"type": "Ready"}]}},
    ],
    ids=["no status", "empty status", "no conditions", "no observed generation"],
)
def test_a_server_that_the_operator_has_not_seen_is_progressing(obj: dict[str, Any]) -> None:
    assert health(obj)[0] == "Progressing"


def test_a_server_that_is_being_deleted_is_progressing() -> None:
    obj = server({})
    obj["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z"
    assert health(obj) == ("Progressing", "the server is being deleted")


def test_the_table_speaks_only_of_reasons_that_exist() -> None:
    used = [pair for conditions, _, _ in TABLE.values() for pair in conditions.items()]
    for kind, (_status, reason) in used:
        reasons = set(REASONS[kind])
        if kind == "Ready":  # Ready repeats the reason that stops it
            reasons |= {*REASONS["Planned"], *REASONS["Progressing"], *REASONS["Available"]}
        assert reason in reasons


def test_every_reason_of_progress_is_in_the_table() -> None:
    rows = [SETTLED | conditions for conditions, _, _ in TABLE.values()]
    assert {row["Progressing"][1] for row in rows} == set(REASONS["Progressing"])
    assert {row["Stalled"][1] for row in rows} == set(REASONS["Stalled"])
    assert {row["Ready"][1] for row in rows} >= set(REASONS["Ready"])
