"""Engines that do not start: the reason and the remedy in the conditions, and bounded repairs.

The pods run the scripted engine under the node agent: real logs, exit codes and restarts.
"""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, flag

IMAGE = "scripted/vllm:v0.30.0"


@pytest.fixture
def world(engine_world: World) -> World:
    return engine_world


@pytest.fixture
def operator(world: World, start_operator: StartOperator) -> OperatorProcess:
    return start_operator(world)


def serve(world: World, engine: dict[str, Any] | None = None, **variables: str) -> None:
    """A server whose scripted engine reads ``variables``."""
    environment = [{"name": name, "value": value} for name, value in variables.items()]
    world.apply(engine={"image": IMAGE, "env": environment, **(engine or {})})


def restarts(world: World) -> int:
    return sum(
        status["restartCount"]
        for pod in world.list("Pod")
        for status in pod["status"].get("containerStatuses", [])
    )


def events(world: World, reason: str) -> list[str]:
    return [event["note"] for event in world.list("Event") if event["reason"] == reason]


def written(world: World) -> dict[str, str]:
    """resourceVersions of what the operator writes; the events of an agent come and go."""
    versions = world.versions()
    return {name: versions[name] for name in versions if not name.startswith("Event/")}


def standing(world: World) -> list[dict[str, Any]]:
    return [pod for pod in world.list("Pod") if "deletionTimestamp" not in pod["metadata"]]


def flag_reason(world: World, name: str) -> str:
    flags = world.status()["plan"]["flags"]
    return str(next(one["reason"] for one in flags if one["name"] == name))


@pytest.mark.usefixtures("operator")
def test_a_cache_that_is_too_small_is_repaired_by_vllm_s_own_estimate(world: World) -> None:
    serve(world, SCRIPTED_KV_TOKENS="20000")
    world.wait_ready(timeout=60)
    assert flag(world.args(), "--max-model-len") == "19456"
    reason = flag_reason(world, "--max-model-len")
    assert reason.startswith("repair 1 of 3: lowered from 32768 to 19456 after a failed start")
    assert events(world, "PlanRepaired") == [reason]
    assert world.condition("UpdateAvailable")["status"] == "False"


def test_a_pin_stops_with_the_numbers_and_its_pods_are_no_longer_started(
    world: World, operator: OperatorProcess
) -> None:
    serve(world, {"maxModelLen": 32768}, SCRIPTED_KV_TOKENS="20000")
    world.wait_condition("Stalled", "True", "KVCacheTooSmall", timeout=60)
    told = world.condition("Ready")["message"]
    assert "set spec.engine.maxModelLen to at most 20000" in told
    assert "spec.engine.maxModelLen is pinned" in told
    for kind in ("Progressing", "Available", "Ready"):
        assert world.condition(kind)["reason"] == "KVCacheTooSmall"
    world.wait(lambda: not world.list("Pod"), "its pods to go")
    world.wait(lambda: world.status()["replicas"] == 0, "the status to say so")
    before = written(world)
    operator.kill()
    operator.start()
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 2}}, "scale")
    world.wait(
        lambda: world.condition("Stalled")["observedGeneration"] == 2, "the scaled one to be seen"
    )
    assert world.get("Deployment")["spec"]["replicas"] == 0
    unchanged = ("Deployment/qwen", "Service/qwen")
    assert [written(world)[name] for name in unchanged] == [before[name] for name in unchanged]
    assert len(events(world, "KVCacheTooSmall")) == 1


@pytest.mark.usefixtures("operator")
def test_an_edit_after_a_stop_starts_afresh(world: World) -> None:
    serve(world, {"maxModelLen": 32768}, SCRIPTED_KV_TOKENS="20000")
    world.wait_condition("Stalled", "True", "KVCacheTooSmall", timeout=60)
    serve(world, {"maxModelLen": 16384}, SCRIPTED_KV_TOKENS="20000")
    world.wait_ready(timeout=60)
    assert world.condition("Stalled")["status"] == "False"


def test_after_three_repairs_the_reason_stands_across_a_restart_of_the_operator(
    world: World, operator: OperatorProcess
) -> None:
    serve(world, SCRIPTED_PLAY="no-kv-cache")
    world.wait(lambda: events(world, "PlanRepaired"), "a repair", timeout=60)
    operator.kill()
    operator.start()
    world.wait_condition("Stalled", "True", "KVCacheTooSmall", timeout=60)
    told = world.condition("Ready")["message"]
    assert "3 repairs of the plan have not helped" in told
    assert flag_reason(world, "--max-num-seqs").startswith("repair 3 of 3: lowered from 256 to 128")
    assert len(world.list("ControllerRevision")) in (4, 5)  # the fifth says that it is stopped


@pytest.mark.usefixtures("operator")
def test_the_last_good_plan_serves_on_in_place_of_one_that_does_not_start(
    world: World,
) -> None:
    serve(world)
    world.wait_ready(timeout=60)
    good = standing(world)[0]["metadata"]["uid"]
    serve(world, {"maxNumSeqs": 64}, SCRIPTED_PLAY="no-kv-cache")
    world.wait_condition("Stalled", "True", "KVCacheTooSmall", timeout=60)
    told = world.condition("Ready")["message"]
    assert "the plan before it serves" in told
    world.wait(lambda: [one["metadata"]["uid"] for one in standing(world)] == [good], "one pod")
    assert world.condition("Available")["status"] == "True"
    assert flag(world.args(), "--max-num-seqs") != "64"
    assert len(events(world, "RolledBack")) == 1
    world.delete("Service")
    world.wait(lambda: world.find("Service", "qwen"), "the plan before to be kept in repair")
    serve(world)
    world.wait_ready(timeout=60)
    assert [one["metadata"]["uid"] for one in standing(world)] == [good]


@pytest.mark.usefixtures("operator")
def test_what_may_pass_by_itself_is_waited_for(world: World) -> None:
    serve(world, SCRIPTED_PLAY="gated-model")
    waiting = world.wait_condition("Progressing", "True", "ModelAccessDenied", timeout=60)
    assert "spec.model.tokenSecretRef" in waiting["message"]
    assert world.condition("Stalled")["status"] == "False"
    assert world.condition("Reconciling")["status"] == "True"


@pytest.mark.usefixtures("operator")
def test_a_missing_secret_is_named_and_its_creation_is_enough(world: World) -> None:
    reference = {"name": "hf-token", "key": "token"}
    model = {"id": "Qwen/Qwen2.5-7B-Instruct", "tokenSecretRef": reference}
    world.apply(model=model, engine={"image": IMAGE})
    said = world.wait_condition("Progressing", "True", "SecretMissing", timeout=60)
    assert "there is no Secret hf-token" in said["message"]
    secret = {"metadata": {"name": "hf-token"}, "stringData": {"token": "hf_x"}}
    world.cluster.api("POST", f"/api/v1/namespaces/{world.namespace}/secrets", secret)
    world.wait_ready(timeout=60)


@pytest.mark.usefixtures("operator")
def test_an_image_that_cannot_be_pulled_is_said(world: World) -> None:
    world.apply(engine={"image": "nowhere/vllm:v0.30.0"})
    said = world.wait_condition("Ready", "False", "ImagePullFailed", timeout=60)
    assert "spec.engine.image" in said["message"]


@pytest.mark.usefixtures("operator")
def test_a_container_above_its_memory_limit_is_said(world: World) -> None:
    variables = [{"name": "SCRIPTED_PLAY", "value": "oom-killed"}]
    limits = {"limits": {"memory": "256Mi"}}
    world.apply(engine={"image": IMAGE, "env": variables}, pod={"resources": limits})
    said = world.wait_condition("Ready", "False", "OOMKilled", timeout=60)
    assert "spec.pod.resources.limits.memory" in said["message"]


@pytest.mark.usefixtures("operator")
def test_an_engine_that_crashed_while_it_served_is_said_and_serves_again(world: World) -> None:
    serve(world)
    world.wait_ready(timeout=60)
    (pod,) = world.list("Pod")
    url = f"http://{pod['status']['podIP']}:8000/scripted/crash"
    with urllib.request.urlopen(url, b"{}", timeout=5):
        pass
    world.wait(lambda: events(world, "EngineCrashed"), "the crash to be told", timeout=60)
    world.wait_ready(timeout=60)
    assert len(world.list("ControllerRevision")) == 1
