"""PodDisruptionBudgets: there with two replicas or more, gone with fewer, nobody else's."""

from __future__ import annotations

from localcluster.client import ApiError
from support.operating import OperatorProcess
from support.world import World

BUDGET = "PodDisruptionBudget"


def test_two_replicas_have_a_budget_and_one_has_none(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(replicas=2)
    world.wait_ready()
    budget = world.get(BUDGET)
    assert budget["spec"]["maxUnavailable"] == 1
    (owner,) = budget["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("VLLMServer", True)
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 1}})
    world.wait(lambda: world.find(BUDGET, "qwen") is None, "the budget to go")
    world.wait_ready()
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 3}})
    world.wait(lambda: world.find(BUDGET, "qwen"), "the budget to come back")


def test_the_api_server_lets_one_replica_be_evicted_and_not_the_second(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(replicas=2)
    world.wait_ready()
    world.wait(
        lambda: (world.get(BUDGET).get("status") or {}).get("disruptionsAllowed") == 1,
        "the budget to allow one eviction",
    )
    refused = []
    for pod in world.list("Pod"):
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod["metadata"]["name"], "namespace": world.namespace},
        }
        try:
            world.cluster.api(
                "POST", world.path("Pod", pod["metadata"]["name"]) + "/eviction", body
            )
        except ApiError as error:
            refused.append(error.status)
    assert refused == [429]
    world.wait_ready()


def test_a_changed_budget_is_restored_and_a_deleted_one_is_made_again(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(replicas=2)
    world.wait_ready()
    world.patch(BUDGET, "qwen", {"spec": {"maxUnavailable": 2}})
    world.wait(lambda: world.get(BUDGET)["spec"]["maxUnavailable"] == 1, "the budget to be ours")
    before = world.get(BUDGET)["metadata"]["uid"]
    world.delete(BUDGET)
    world.wait(
        lambda: (
            (world.find(BUDGET, "qwen") or {"metadata": {"uid": before}})["metadata"]["uid"]
            != before
        ),
        "a new budget",
    )


def test_somebody_else_s_budget_of_that_name_stays_untouched(
    world: World, operator: OperatorProcess
) -> None:
    body = {
        "apiVersion": "policy/v1",
        "kind": BUDGET,
        "metadata": {"name": "qwen"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "other"}}},
    }
    world.create(BUDGET, body)
    world.apply(replicas=2)
    planned = world.wait_condition("Planned", "False", "NameConflict")
    assert f"{BUDGET} qwen exists" in planned["message"]
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 1}})
    world.wait_ready()
    assert world.get(BUDGET)["spec"]["minAvailable"] == 1


def test_scaling_to_zero_takes_the_budget_along(world: World, operator: OperatorProcess) -> None:
    world.apply(replicas=2)
    world.wait_ready()
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 0}})
    world.wait(lambda: world.find(BUDGET, "qwen") is None, "the budget to go")
