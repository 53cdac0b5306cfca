"""What a started engine measured of its KV cache, kept for the next plan of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World

KEPT = "vllm-operator-calibration"
ENGINE = {
    "image": "scripted/vllm:v0.30.0",
    "env": [{"name": "SCRIPTED_KV_TOKENS", "value": "960000"}],
}


@pytest.fixture
def world(engine_world: World) -> World:
    return engine_world


@pytest.fixture
def operator(world: World, start_operator: StartOperator) -> OperatorProcess:
    return start_operator(world, calibration=True, lease_namespace=world.namespace)


def measured(world: World, name: str = "qwen") -> dict[str, Any]:
    def said() -> Any:
        return world.status(name).get("calibration")

    found: dict[str, Any] = world.wait(said, f"the measurement of {name}")
    return found


def test_the_next_plan_of_the_kind_is_exact_also_after_a_restart(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(engine=ENGINE)
    world.wait_ready(timeout=60)
    first = measured(world)
    assert first["numGpuBlocks"] == 960_000 // 16
    assert first["relativeError"] < 0
    assert operator.metric("vllm_operator_kv_cache_error_ratio") == first["relativeError"]
    assert world.condition("UpdateAvailable")["status"] == "False"
    world.wait(lambda: world.find("ConfigMap", KEPT), "the correction to be kept")
    operator.kill()
    operator.start()
    world.apply("other", engine=ENGINE)
    world.wait_ready("other", timeout=60)
    second = measured(world, "other")
    planned = second["plannedNumGpuBlocks"]
    assert abs(planned["expected"] - second["numGpuBlocks"]) <= 1
    assert planned["low"] <= second["numGpuBlocks"]
    assert world.status()["calibration"] == first
    assert len(world.list("ControllerRevision")) == 2
