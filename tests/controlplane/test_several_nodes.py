"""Replicas on several nodes: the LeaderWorkerSet that becomes of them, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.cluster import Cluster
from localcluster.waiting import wait_until
from support.fixtures import StartOperator
from support.world import World, flag

CRDS = Path(__file__).parents[2] / "crds"
GROUPS = Path(__file__).parent / "data" / "leaderworkersets.yaml"
GROUP = "LeaderWorkerSet"
LARGE = {"id": "deepseek-ai/DeepSeek-R1"}
SMALL = {"id": "Qwen/Qwen2.5-7B-Instruct"}
H100 = {"product": "H100"}
BEFORE, AFTER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"

pytestmark = pytest.mark.xdist_group("several-nodes")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """Two nodes of eight H100, neither of which holds the large model alone."""
    with Cluster(manifests=[CRDS, GROUPS]) as running:
        for number in range(2):
            running.add_gpu_node(f"h100-{number}", count=8)
        yield running


@pytest.fixture
def place(two_nodes: Cluster, request: pytest.FixtureRequest) -> World:
    name = f"n{abs(hash(request.node.name)) % 10**8}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    two_nodes.api("POST", "/api/v1/namespaces", body)
    return World(two_nodes, name)


def group(world: World) -> dict[str, Any]:
    return dict(world.wait(lambda: world.find(GROUP, "qwen"), "the LeaderWorkerSet"))


def engine(template: dict[str, Any]) -> dict[str, Any]:
    (container,) = template["spec"]["containers"]
    return dict(container)


def report(world: World, ready: int) -> None:
    """What LeaderWorkerSet's controller would say once so many groups are ready."""
    live = world.get(GROUP)
    status = {
        "replicas": live["spec"]["replicas"],
        "updatedReplicas": live["spec"]["replicas"],
        "readyReplicas": ready,
        "observedGeneration": live["metadata"]["generation"],
    }
    world.patch(GROUP, "qwen", {"status": status}, "status")


def test_a_model_that_no_node_holds_becomes_groups_of_two_pods(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100)
    made = group(place)
    template = made["spec"]["leaderWorkerTemplate"]
    assert (template["size"], template["restartPolicy"]) == (2, "RecreateGroupOnPodRestart")
    assert made["spec"]["networkConfig"] == {"subdomainPolicy": "UniquePerReplica"}
    leader, worker = engine(template["leaderTemplate"]), engine(template["workerTemplate"])
    for container, rank in ((leader, "0"), (worker, "$(LWS_WORKER_INDEX)")):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert flag(container["command"], "--nnodes") == "2"
        assert flag(container["command"], "--node-rank") == rank
        assert flag(container["command"], "--master-addr") == "$(LWS_LEADER_ADDRESS)"
    assert "--headless" not in leader["command"]
    assert worker["command"][-1] == "--headless"
    assert {"startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"} <= set(leader)
    assert not {"startupProbe", "readinessProbe", "livenessProbe", "ports"} & set(worker)
    assert place.find("Deployment", "qwen") is None


def test_only_leaders_are_behind_the_service(place: World, start_operator: StartOperator) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100)
    template = group(place)["spec"]["leaderWorkerTemplate"]
    selector = place.wait(lambda: place.find("Service", "qwen"), "the Service")["spec"]["selector"]
    assert selector.items() <= template["leaderTemplate"]["metadata"]["labels"].items()
    assert not selector.items() <= template["workerTemplate"]["metadata"]["labels"].items()


def test_a_server_of_groups_is_ready_once_they_are_and_nothing_more_is_written(
    place: World, start_operator: StartOperator
) -> None:
    operator = start_operator(place)
    place.apply(model=LARGE, gpu=H100, replicas=2)
    group(place)
    assert place.wait_condition("Progressing", "True")["reason"] == "RollingOut"
    report(place, ready=1)
    place.wait_condition("Available", "True", "SomeReplicasReady")
    report(place, ready=2)
    place.wait_ready()
    assert place.status()["summary"]["gpus"] == "16 x H100-80GB-HBM3 on 2 nodes"
    writes = operator.metric("vllm_operator_writes_total")
    report(place, ready=1)
    place.wait_condition("Available", "True", "SomeReplicasReady")
    report(place, ready=2)
    place.wait_ready()
    assert operator.metric("vllm_operator_writes_total") == writes + 2  # both are status


def make_pod(world: World, kind: str, name: str, status: dict[str, Any]) -> None:
    """A pod of a group as LeaderWorkerSet's controller makes it, in that state."""
    template = group(world)["spec"]["leaderWorkerTemplate"][kind]
    spec = {**template["spec"], "nodeName": "nowhere"}
    container = dict(spec["containers"][0])
    injected = [{"name": "LWS_LEADER_ADDRESS", "value": "qwen-0.qwen.x"}]
    spec["containers"] = [{**container, "env": [*injected, *container["env"]]}]
    body = {"metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": spec}
    path = f"/api/v1/namespaces/{world.namespace}/pods"
    world.cluster.api("POST", path, {"apiVersion": "v1", "kind": "Pod", **body})
    patch = {"status": {"phase": "Running", "startTime": BEFORE, **status}}
    world.cluster.api("PATCH", f"{path}/{name}/status", patch, "application/merge-patch+json")


def container_status(ready: bool, **state: Any) -> dict[str, Any]:
    value = "True" if ready else "False"
    status = {"name": "engine", "image": "x", "imageID": "", "ready": ready, "restartCount": 0}
    return {
        "conditions": [{"type": "Ready", "status": value, "lastTransitionTime": BEFORE}],
        "containerStatuses": [{**status, **state}],
    }


def test_a_leader_that_cannot_start_is_given_up_although_its_worker_runs(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100)
    running = {"running": {"startedAt": BEFORE}}
    make_pod(place, "workerTemplate", "qwen-0-1", container_status(True, state=running))
    ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": AFTER, "finishedAt": AFTER}
    leader = container_status(
        False,
        restartCount=2,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {**ended, "containerID": "c://1"}},
    )
    make_pod(place, "leaderTemplate", "qwen-0", leader)
    place.wait_condition("Stalled", "True", "OOMKilled")
    place.wait(lambda: place.get(GROUP)["spec"]["replicas"] == 0, "the group to be stopped")
    assert "latestReadyRevision" not in place.status()


def test_a_group_that_somebody_changes_is_restored_and_a_deleted_one_is_made_again(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100)
    uid = group(place)["metadata"]["uid"]
    place.patch(GROUP, "qwen", {"spec": {"replicas": 3, "leaderWorkerTemplate": {"size": 4}}})
    place.wait(
        lambda: (
            (
                place.get(GROUP)["spec"]["replicas"],
                place.get(GROUP)["spec"]["leaderWorkerTemplate"]["size"],
            )
            == (1, 2)
        ),
        "the LeaderWorkerSet to be ours",
    )
    place.delete(GROUP)
    place.wait(
        lambda: (place.find(GROUP, "qwen") or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid,
        "another LeaderWorkerSet",
    )


def test_scaling_and_edits_reach_the_group(place: World, start_operator: StartOperator) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100)
    group(place)
    place.apply(model=LARGE, gpu=H100, replicas=0)
    place.wait(lambda: place.get(GROUP)["spec"]["replicas"] == 0, "no replica")
    place.apply(model=LARGE, gpu=H100, replicas=1, engine={"maxNumSeqs": 64})

    def seqs() -> list[str | None]:
        template = place.get(GROUP)["spec"]["leaderWorkerTemplate"]
        parts = (template["leaderTemplate"], template["workerTemplate"])
        return [flag(engine(part)["command"], "--max-num-seqs") for part in parts]

    place.wait(lambda: seqs() == ["64", "64"], "both commands")


def test_a_server_that_comes_to_take_two_nodes_serves_on_until_its_group_does(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    place.apply(model=SMALL, gpu=H100)
    place.wait_ready()
    place.apply(model=LARGE, gpu=H100)
    group(place)
    place.wait_condition("Planned", "True")
    assert place.find("Deployment", "qwen") is not None
    report(place, ready=1)
    place.wait(lambda: place.find("Deployment", "qwen") is None, "the Deployment to go")
    place.wait_ready()
    place.apply(model=SMALL, gpu=H100)
    place.wait_ready()
    place.wait(lambda: place.find(GROUP, "qwen") is None, "the LeaderWorkerSet to go")


def test_an_older_vllm_spans_the_nodes_with_ray(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    place.apply(model=LARGE, gpu=H100, engine={"version": "0.10.2"})
    template = group(place)["spec"]["leaderWorkerTemplate"]
    leader, worker = engine(template["leaderTemplate"]), engine(template["workerTemplate"])
    assert flag(leader["command"], "--distributed-executor-backend") == "ray"
    assert '"role": "leader"' in leader["command"][3]
    assert '"address": "$(LWS_LEADER_ADDRESS)"' in worker["command"][3]
    assert "vllm" not in worker["command"]


def test_an_operator_that_starts_again_changes_nothing_of_a_group(
    place: World, start_operator: StartOperator
) -> None:
    operator = start_operator(place)
    place.apply(model=LARGE, gpu=H100, pod={"imagePullSecrets": [{"name": "a"}]})
    group(place)
    report(place, ready=1)
    place.wait_ready()
    before = place.get(GROUP)["metadata"]["resourceVersion"]
    operator.terminate()
    operator.start()
    place.delete("Service")
    place.wait(lambda: place.find("Service", "qwen"), "the server to have been visited")
    assert place.get(GROUP)["metadata"]["resourceVersion"] == before


def test_somebody_else_s_group_of_that_name_stays_untouched(
    place: World, start_operator: StartOperator
) -> None:
    start_operator(place)
    template = {"spec": {"containers": [{"name": "a", "image": "b"}]}}
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": GROUP,
        "metadata": {"name": "qwen"},
        "spec": {"leaderWorkerTemplate": {"workerTemplate": template}},
    }
    place.create(GROUP, body)
    place.apply(model=LARGE, gpu=H100)
    place.wait_condition("Planned", "False", "NameConflict")
    assert place.get(GROUP)["spec"]["leaderWorkerTemplate"]["workerTemplate"] == template


def test_without_the_api_it_is_said_how_to_install_it_and_then_found(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    operator = start_operator(own_world, resync_seconds=10)
    own_world.apply(model=LARGE, gpu=H100)
    planned = own_world.wait_condition("Planned", "False", "LeaderWorkerSetMissing")
    assert "takes 2 nodes of 8 NVIDIA-H100-80GB-HBM3" in planned["message"]
    assert "https://lws.sigs.k8s.io/docs/installation" in planned["message"]
    own_cluster.kubectl("apply", "-f", str(GROUPS))
    wait_until(lambda: operator.returncode is not None, "it to start afresh", timeout=60)
    operator.start()
    own_world.wait_condition("Planned", "True", timeout=60)
    group(own_world)
