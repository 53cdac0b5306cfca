"""A trial is one pod of a held rollout, and each attack on it ends it without harm.

The operator runs with a tuner that does what an annotation says (``support.directed``).
"""

from __future__ import annotations

from typing import Any

import pytest

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from support import directed
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.trials import (
    DIRECTED,
    HELD,
    STABLE,
    TRIED,
    created,
    direct,
    is_over,
    is_ready,
    pods,
    serve,
    trials,
    try_out,
    uids,
    wait_over,
)
from support.world import Object, World, flag


def start(world: World, start_operator: StartOperator) -> OperatorProcess:
    return start_operator(world, **DIRECTED)


@pytest.fixture
def tuned(world: World, start_operator: StartOperator) -> OperatorProcess:
    """A directed operator of the shared cluster."""
    return start(world, start_operator)


def test_a_trial_is_one_pod_more_that_serves_and_leaves_all_others(
    world: World, tuned: OperatorProcess
) -> None:
    before = serve(world)
    ready = world.condition("Ready")
    try_out(world)
    assert uids(world) == before
    deployment = world.get("Deployment")["spec"]
    assert (deployment["minReadySeconds"], deployment["progressDeadlineSeconds"]) == (
        HELD,
        HELD + 1,
    )
    world.wait(lambda: world.status()["readyReplicas"] == 3, "three ready pods in the status")
    assert world.condition("Ready") == ready
    direct(world, "STABLE")
    wait_over(world)
    assert uids(world) == before
    world.wait(lambda: world.status()["replicas"] == 2, "two pods in the status")
    assert world.condition("Ready") == ready
    rolling = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def visits(operator: OperatorProcess) -> float:
    return operator.metric("vllm_operator_reconciles_total")


def visit(world: World, operator: OperatorProcess) -> None:
    """Have the server visited, twice: what the first one wrote may change what is seen."""
    for number in range(2):
        before = visits(operator)
        note = {"metadata": {"annotations": {"test/nudge": f"{before} {number}"}}}
        world.patch("VLLMServer", "qwen", note)
        world.wait(lambda before=before: visits(operator) > before, "a visit")


def patch_deployment(world: World, body: Object) -> None:
    world.patch("Deployment", "qwen", body)


def lose_a_stable_pod(world: World, cluster: Cluster) -> str:
    """Nobody schedules to the only stable pod's node any more, and the pod goes; the new one's
    uid, for which no node is found."""
    (pod,) = pods(world, STABLE)
    node = f"/api/v1/nodes/{pod['spec']['nodeName']}"
    merge = "application/merge-patch+json"
    cluster.api("PATCH", node, {"spec": {"unschedulable": True}}, merge)
    world.delete("Pod", pod["metadata"]["name"])

    def waits() -> str | None:
        for other in pods(world, STABLE):
            conditions = other.get("status", {}).get("conditions", [])
            lost = any(one.get("reason") == "Unschedulable" for one in conditions)
            if other["metadata"]["uid"] != pod["metadata"]["uid"] and lost:
                return str(other["metadata"]["uid"])
        return None

    found: str = world.wait(waits, "a stable pod without a node", 60)
    return found


def two_nodes_of_one_gpu(world: World, cluster: Cluster) -> None:
    """Instead of the cluster's own: one with a stable pod, one with room for a trial's."""
    cluster.remove_node("h100-0")
    cluster.add_gpu_node("one-0", count=1)
    serve(world, replicas=1)
    cluster.add_gpu_node("one-1", count=1)


# Rules 1 and 8


def test_a_stable_pod_that_is_lost_ends_no_trial_and_takes_the_trial_s_gpu_when_it_ends(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    operator = start(own_world, start_operator)
    two_nodes_of_one_gpu(own_world, own_cluster)
    trial = try_out(own_world)
    waits = lose_a_stable_pod(own_world, own_cluster)
    visit(own_world, operator)
    assert uids(own_world, TRIED) == [trial["metadata"]["uid"]]
    assert own_world.condition("Ready")["status"] == "True"
    direct(own_world, "STABLE")
    wait_over(own_world)
    own_world.wait(lambda: [p for p in pods(own_world, STABLE) if is_ready(p)], "the stable pod")
    assert uids(own_world) == [waits]


# Rule 2


@pytest.mark.parametrize("after", [4, 0], ids=["more than it stands", "zero"])
def test_a_scaling_ends_a_trial_first(world: World, tuned: OperatorProcess, after: int) -> None:
    serve(world)
    try_out(world)
    serve_replicas(world, after)
    world.wait(lambda: len(pods(world, STABLE)) == after and is_over(world), "the scaling", 60)
    assert created(world) == 1
    serve_replicas(world, 2)
    world.wait_ready(timeout=60)
    assert created(world) == 1


def serve_replicas(world: World, replicas: int) -> None:
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": replicas}})


def test_a_trial_stays_through_a_small_scaling(world: World, tuned: OperatorProcess) -> None:
    serve(world, replicas=4)
    trial = try_out(world)
    for replicas in (5, 3):
        serve_replicas(world, replicas)
        world.wait(
            lambda wanted=replicas: len(pods(world, STABLE)) == wanted,
            f"{replicas} stable pods",
            60,
        )
        visit(world, tuned)
    assert uids(world, TRIED) == [trial["metadata"]["uid"]]
    assert world.get("Deployment")["spec"]["minReadySeconds"] == HELD


def test_a_replica_that_finds_no_gpu_beside_a_trial_gets_the_trial_s(
    own_world: World, start_operator: StartOperator
) -> None:
    start(own_world, start_operator)
    serve(own_world, replicas=6)
    try_out(own_world)
    serve_replicas(own_world, 8)
    wait_over(own_world)
    own_world.wait(lambda: len([p for p in pods(own_world, STABLE) if is_ready(p)]) == 8, "all", 60)


# Rule 3


def test_no_trial_begins_while_a_replica_is_not_ready(
    own_world: World, start_operator: StartOperator
) -> None:
    operator = start(own_world, start_operator)
    serve(own_world, replicas=8)
    serve_replicas(own_world, 9)
    own_world.wait_condition("Progressing", "True", "WaitingForGPU")
    direct(own_world, "TRIAL")
    visit(own_world, operator)
    assert trials(own_world) == []
    assert "minReadySeconds" not in own_world.get("Deployment")["spec"]


def test_a_deployment_that_is_deleted_in_a_trial_is_made_again_without_it(
    world: World, tuned: OperatorProcess
) -> None:
    serve(world)
    try_out(world)
    uid = world.get("Deployment")["metadata"]["uid"]
    world.delete("Deployment")

    def remade() -> bool:
        found = world.find("Deployment", "qwen")
        return found is not None and found["metadata"]["uid"] != uid

    world.wait(remade, "another Deployment")
    wait_over(world)
    world.wait_ready(timeout=60)


# Rule 4


IN_PLACE_BY_ITSELF = {"strategy": "InPlace", "surgeTimeoutSeconds": 1}


def test_a_trial_that_finds_no_room_ends_and_counts_as_none(
    own_world: World, start_operator: StartOperator
) -> None:
    start(own_world, start_operator)
    before = serve(own_world, replicas=8, rollout=IN_PLACE_BY_ITSELF)
    direct(own_world, "TRIAL")
    own_world.wait(lambda: created(own_world), "the trial's pod", 60)
    own_world.wait(lambda: trials(own_world) == [] and is_over(own_world), "its end", 60)
    assert uids(own_world) == before


def deny(world: World, seqs: str) -> None:
    """A policy that refuses pods of that setting, once it is in force."""
    base = "/apis/admissionregistration.k8s.io/v1"
    name = f"{world.namespace}-pods"
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ]
    mine = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    refused = (
        "!has(object.spec.containers[0].command) || "
        f"!object.spec.containers[0].command.exists(word, word == '{seqs}')"
    )
    spec = {
        "matchConstraints": {"resourceRules": rules, "namespaceSelector": mine},
        "validations": [{"expression": refused, "message": "not here"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for kind, plural, body in (
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", spec),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", binding),
    ):
        form = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
        world.cluster.api(
            "POST", f"{base}/{plural}", {**form, "metadata": {"name": name}, "spec": body}
        )
    container = {"name": "c", "image": "i", "command": [seqs]}
    probe = {"metadata": {"generateName": "probe-"}, "spec": {"containers": [container]}}

    def denies() -> bool:
        try:
            world.cluster.api("POST", f"{world.path('Pod')}?dryRun=All", probe)
        except ApiError as error:
            return "not here" in str(error)
        return False

    world.wait(denies, "the policy to be in force")


def test_a_trial_whose_pod_is_refused_ends_and_says_nothing_of_the_plan(
    world: World, tuned: OperatorProcess
) -> None:
    # Long enough to be seen before it ends, also by a test that waits for its processor.
    before = serve(world, rollout={**IN_PLACE_BY_ITSELF, "surgeTimeoutSeconds": 5})
    ready = world.condition("Ready")
    deny(world, TRIED)
    direct(world, "TRIAL")
    world.wait(lambda: trials(world), "the trial")
    world.wait(lambda: trials(world) == [] and is_over(world), "its end", 60)
    assert uids(world) == before
    assert world.condition("Ready") == ready


def test_where_it_may_a_trial_without_room_takes_the_place_of_the_only_pod_and_gives_it_back(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    own_cluster.remove_node("h100-0")
    own_cluster.add_gpu_node("one-0", count=1)
    start(own_world, start_operator)
    allowed = {"mode": "Auto", "disruption": "Allow"}
    serve(own_world, replicas=1, autotune=allowed, rollout={"surgeTimeoutSeconds": 1})
    try_out(own_world)
    assert pods(own_world, STABLE) == []
    own_world.wait_ready()
    direct(own_world, "STABLE")
    wait_over(own_world)
    own_world.wait(
        lambda: [p for p in pods(own_world, STABLE) if is_ready(p)], "the pod before", 60
    )
    assert len(trials(own_world)) == 1


# Rule 5


def restart(world: World) -> Object:
    """As kubectl rollout restart does."""
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}


def shorter_hold(world: World) -> Object:
    return {"spec": {"minReadySeconds": 3600}}


def another_label(world: World) -> Object:
    return {"spec": {"template": {"metadata": {"labels": {"somebody": "else"}}}}}


def pause(world: World) -> Object:
    """Rule 6."""
    return {"spec": {"paused": True}}


def scaled_by_hand(world: World) -> Object:
    return {"spec": {"replicas": 3}}


@pytest.mark.parametrize("change", [restart, shorter_hold, another_label, scaled_by_hand, pause])
def test_who_changes_the_deployment_in_a_trial_ends_it(
    world: World, tuned: OperatorProcess, change: Any
) -> None:
    serve(world)
    try_out(world)
    patch_deployment(world, change(world))
    wait_over(world)
    world.wait_ready(timeout=60)
    assert "paused" not in world.get("Deployment")["spec"]
    assert len([pod for pod in pods(world, STABLE) if is_ready(pod)]) == 2
    assert len(trials(world)) == 1


def test_an_undo_in_a_trial_ends_it_and_touches_no_stable_pod(
    world: World, tuned: OperatorProcess
) -> None:
    before = serve(world)
    template = world.get("Deployment")["spec"]["template"]
    annotations = world.get("Deployment")["metadata"]["annotations"]
    try_out(world)
    undo = [
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": "replace", "path": "/metadata/annotations", "value": annotations},
    ]
    world.patch("Deployment", "qwen", undo)
    wait_over(world)
    assert uids(world) == before


def test_a_setting_that_changes_no_argument_is_no_trial(
    world: World, tuned: OperatorProcess
) -> None:
    serve(world)
    direct(world, "TRIAL", STABLE)
    visit(world, tuned)
    assert trials(world) == []


# Rule 7


def test_in_a_trial_no_more_stable_pods_may_be_evicted_than_before(
    world: World, tuned: OperatorProcess
) -> None:
    serve(world)
    try_out(world)

    def allowed() -> tuple[Any, int]:
        found = world.get("PodDisruptionBudget")
        return found["spec"].get("minAvailable"), found["status"]["disruptionsAllowed"]

    world.wait(lambda: allowed() == (2, 1), "one disruption that is allowed of three pods")
    direct(world, "STABLE")
    wait_over(world)
    world.wait(
        lambda: world.get("PodDisruptionBudget")["spec"].get("maxUnavailable") == 1, "the budget"
    )


# Rule 9


def test_a_promoted_trial_replaces_no_ready_pod_before_another_one_is_and_says_what_it_waits_for(
    world: World, tuned: OperatorProcess
) -> None:
    serve(world, rollout={"strategy": "InPlace"})
    trial = try_out(world)
    deny(world, TRIED)  # no pod but the one that there is
    direct(world, "PROMOTED")
    world.wait_condition("Progressing", "True", "PodRefused", timeout=60)
    deployment = world.get("Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "minReadySeconds" not in deployment
    assert uids(world, TRIED) == [trial["metadata"]["uid"]]
    assert len([pod for pod in world.list("Pod") if is_ready(pod)]) >= 2
    direct(world, "STABLE")
    world.wait(lambda: len(pods(world, STABLE)) == 2 and not pods(world, TRIED), "the way back", 60)
    world.wait_ready(timeout=60)


def test_a_promoted_trial_keeps_its_pod_and_is_the_plan_from_then_on(
    world: World, tuned: OperatorProcess
) -> None:
    serve(world)
    trial = try_out(world)
    direct(world, "PROMOTED")
    world.wait(lambda: len(pods(world, TRIED)) == 2 and not pods(world, STABLE), "the rollout", 60)
    world.wait_ready(timeout=60)
    assert trial["metadata"]["uid"] in uids(world, TRIED)
    assert world.condition("UpdateAvailable")["status"] == "False"
    reasons = {one["name"]: one["reason"] for one in world.status()["plan"]["flags"]}
    assert reasons["--max-num-seqs"] == f"tuned from {STABLE} to {TRIED}: it was asked for"
    world.patch("VLLMServer", "qwen", {"metadata": {"annotations": {directed.DIRECTION: None}}})
    world.apply(
        gpu={"product": "H100"}, replicas=2, autotune={"mode": "Auto"}, pod={"labels": {"a": "b"}}
    )
    world.wait_ready(timeout=60)
    assert flag(world.args(), "--max-num-seqs") == TRIED


# Rule 10


def test_a_trial_outlives_an_operator_that_is_away(world: World, tuned: OperatorProcess) -> None:
    before = serve(world)
    trial = try_out(world)
    tuned.kill()
    tuned.start()
    visit(world, tuned)
    assert (uids(world), uids(world, TRIED)) == (before, [trial["metadata"]["uid"]])


def nobody_asks(world: World) -> Object:
    return {"metadata": {"annotations": {directed.DIRECTION: None}}}


def it_is_paused(world: World) -> Object:
    return {"spec": {"paused": True}}


def it_is_disabled(world: World) -> Object:
    return {"spec": {"autotune": {"mode": "Recommend"}}}


@pytest.mark.parametrize("change", [nobody_asks, it_is_paused, it_is_disabled])
def test_what_nobody_asks_to_hold_is_ended(
    world: World, tuned: OperatorProcess, change: Any
) -> None:
    before = serve(world)
    try_out(world)
    tuned.kill()
    world.patch("VLLMServer", "qwen", change(world))
    tuned.start()
    wait_over(world)
    assert uids(world) == before
    budget = world.get("PodDisruptionBudget")["spec"]
    world.wait(lambda: "minAvailable" not in world.get("PodDisruptionBudget")["spec"], f"{budget}")


def test_a_specification_that_cannot_be_read_ends_a_trial(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start(own_world, start_operator)
    before = serve(own_world)
    try_out(own_world)
    mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/autotune/properties"
    own_cluster.api(
        "PATCH",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/vllmservers.vllm-operator.io",
        [{"op": "replace", "path": f"{mode}/mode", "value": {"type": "string"}}],
        "application/json-patch+json",
    )

    def stored() -> bool:
        try:
            own_world.patch("VLLMServer", "qwen", {"spec": {"autotune": {"mode": "Newer"}}})
        except ApiError:
            return False
        return True

    own_world.wait(stored, "the looser definition")
    wait_over(own_world)
    assert uids(own_world) == before
    assert own_world.condition("Planned")["status"] == "False"


def test_an_edit_ends_a_trial_before_its_own_rollout(world: World, tuned: OperatorProcess) -> None:
    serve(world, rollout={"strategy": "Surge"})
    try_out(world)
    world.apply(
        gpu={"product": "H100"},
        replicas=2,
        autotune={"mode": "Auto"},
        rollout={"strategy": "Surge"},
        engine={"maxNumSeqs": 128},
    )
    world.wait_ready(timeout=60)
    assert len(pods(world, "128")) == 2
    assert created(world) == 1
    assert is_over(world) or not pods(world, TRIED)
