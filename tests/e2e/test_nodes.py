"""Nodes and kubelets that go and come back, under servers that run."""

from __future__ import annotations

from threading import Thread

from e2e.support import eventually, lives, ready, serve, serving, standing, the_pod
from localcluster import Cluster
from localcluster.realnode import RealNode
from support.world import World


def node_of(world: World) -> RealNode:
    name = the_pod(world)["spec"]["nodeName"]
    return next(node for node in world.cluster.real_nodes if node.name == name)


def heartbeat(world: World, node: RealNode) -> str:
    """When the kubelet last reported its node."""
    conditions = world.cluster.api("GET", f"/api/v1/nodes/{node.name}")["status"]["conditions"]
    return max(one["lastHeartbeatTime"] for one in conditions)


def test_a_kubelet_that_restarts_changes_nothing(world: World) -> None:
    serve(world)
    ready(world)
    before = lives(world)
    node = node_of(world)
    node.stop_kubelet()
    stopped = heartbeat(world, node)
    node.start_kubelet()
    again = eventually(lambda: heartbeat(world, node) > stopped and heartbeat(world, node), "it")
    # One more: by then it has looked at every pod.
    eventually(lambda: heartbeat(world, node) > again, "the kubelet to report again")
    world.cluster.wait_for_devices(node.name, "nvidia.com/gpu", 8)
    ready(world)
    assert lives(world) == before


def test_a_server_is_ready_again_after_its_node_was_restarted(world: World) -> None:
    serve(world)
    ready(world)
    before = lives(world)
    node = node_of(world)
    node.restart()
    eventually(lambda: standing(world) and lives(world) != before, "another container to run")
    ready(world)
    assert world.condition("Stalled")["status"] == "False"


def test_a_drained_nodes_servers_move_to_the_other_node_one_replica_at_a_time(
    world: World, cluster: Cluster
) -> None:
    serve(world, replicas=2)
    ready(world)
    left = standing(world)[0]["spec"]["nodeName"]
    other = next(node.name for node in cluster.real_nodes if node.name != left)

    def moved() -> bool:
        assert serving(world) >= 1
        nodes = [pod["spec"].get("nodeName") for pod in standing(world)]
        return serving(world) == 2 and nodes == [other, other]

    drain = Thread(
        target=cluster.kubectl,
        args=("drain", left, "--ignore-daemonsets", "--delete-emptydir-data"),
        kwargs={"timeout": 150},
    )
    drain.start()
    try:
        eventually(moved, "both replicas to be Ready on the other node")
        ready(world)
    finally:
        drain.join()
        cluster.kubectl("uncordon", left)
