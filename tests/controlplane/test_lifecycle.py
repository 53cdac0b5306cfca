"""The life of a server on a real control plane."""

from __future__ import annotations

from support.operating import OperatorProcess
from support.world import World, container, flag


def test_a_minimal_manifest_becomes_a_ready_server(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    server = world.wait_ready()
    status = server["status"]
    assert status["summary"]["gpus"] == "1 x H100-80GB-HBM3"
    assert status["endpoint"] == f"http://qwen.{world.namespace}.svc:8000/v1"
    assert status["readyReplicas"] == 1
    limits = container(world.get("Deployment"))["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert flag(world.args(), "--tensor-parallel-size") == "1"
