"""Nodes and kubelets that go and come back, under servers that run."""

from __future__ import annotations

from e2e.support import eventually, lives, ready, serve, standing, the_pod
from localcluster import Cluster
from localcluster.realnode import RealNode
from support.world import World


def node_of(world: World) -> RealNode:
    name = the_pod(world)["spec"]["nodeName"]
    return next(node for node in world.cluster.real_nodes if node.name == name)


def test_a_kubelet_that_restarts_changes_nothing(world: World) -> None:
    serve(world)
    ready(world)
    before = lives(world)
    node = node_of(world)
    node.stop_kubelet()
    node.start_kubelet()
    world.cluster.wait_for_node(node.name)
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
    cluster.kubectl(
        *("drain", left, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"),
        timeout=150,
    )
    try:
        ready(world)
        eventually(
            lambda: (
                [pod["spec"]["nodeName"] for pod in standing(world)].count(left) == 0
                and len(standing(world)) == 2
            ),
            "both replicas on the other node",
        )
    finally:
        cluster.kubectl("uncordon", left)
