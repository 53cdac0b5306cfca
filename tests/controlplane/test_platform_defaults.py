"""What every server gets that does not say it itself, and that a change of it restarts none."""

from __future__ import annotations

import json
from typing import Any

from support.fixtures import StartOperator
from support.world import World, container

TAINT = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
OWN = {"name": "HTTPS_PROXY", "value": "http://own:3128"}


def defaults(proxy: str = "http://proxy:3128", **pod: Any) -> str:
    return json.dumps(
        {
            "engine": {
                "env": [
                    {"name": "HTTPS_PROXY", "value": proxy},
                    {"name": "HF_ENDPOINT", "value": "https://hub.example"},
                ]
            },
            "pod": {"imagePullSecrets": [{"name": "registry"}], "tolerations": [TAINT], **pod},
        }
    )


def pod_of(world: World, name: str) -> dict[str, Any]:
    return dict(world.get("Deployment", name)["spec"]["template"]["spec"])


def variables(world: World, name: str) -> dict[str, str]:
    found = container(world.get("Deployment", name))["env"]
    return {one["name"]: one["value"] for one in found if "value" in one}


def given(world: World, name: str) -> dict[str, str]:
    found = world.status(name)["plan"].get("defaults", [])
    return {one["field"]: one["value"] for one in found}


def pods(world: World) -> set[str]:
    return {one["metadata"]["uid"] for one in world.list("Pod")}


def test_servers_get_the_platform_s_defaults_and_override_them(
    world: World, start_operator: StartOperator
) -> None:
    start_operator(world, defaults=defaults())
    world.apply("plain")
    world.apply("own", engine={"env": [OWN]}, pod={"tolerations": []})
    for name in ("plain", "own"):
        world.wait_ready(name)
    assert TAINT in pod_of(world, "plain")["tolerations"]
    assert pod_of(world, "plain")["imagePullSecrets"] == [{"name": "registry"}]
    assert variables(world, "plain")["HTTPS_PROXY"] == "http://proxy:3128"
    assert given(world, "plain") == {
        "spec.engine.env[HTTPS_PROXY]": "http://proxy:3128",
        "spec.engine.env[HF_ENDPOINT]": "https://hub.example",
        "spec.pod.imagePullSecrets": '[{"name":"registry"}]',
        "spec.pod.tolerations": json.dumps([TAINT], sort_keys=True, separators=(",", ":")),
    }
    assert TAINT not in pod_of(world, "own")["tolerations"]
    assert variables(world, "own")["HTTPS_PROXY"] == "http://own:3128"
    assert variables(world, "own")["HF_ENDPOINT"] == "https://hub.example"
    assert set(given(world, "own")) == {"spec.engine.env[HF_ENDPOINT]", "spec.pod.imagePullSecrets"}


def test_other_defaults_roll_no_pod_and_are_said_until_the_next_plan_takes_them(
    world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(world, defaults=defaults())
    world.apply("plain")
    world.apply("own", engine={"env": [OWN]})
    for name in ("plain", "own"):
        world.wait_ready(name)
    running, written = pods(world), world.versions()
    operator.kill()
    operator = start_operator(world, defaults=defaults("http://other:3128"))
    update = world.wait_condition("UpdateAvailable", "True", "PlanDiffers", name="plain")
    assert (
        "the platform's default of spec.engine.env[HTTPS_PROXY] http://proxy:3128 -> "
        "http://other:3128" in update["message"]
    )
    assert "annotation vllm-operator.io/replan" in update["message"]
    world.wait_condition("UpdateAvailable", "False", "UpToDate", name="own")
    for name in ("plain", "own"):
        assert world.condition("Ready", name)["status"] == "True"
    assert pods(world) == running
    after = world.versions()
    assert {one for one in written if written[one] != after.get(one)} <= {"VLLMServer/plain"}
    world.apply("plain", pod={"labels": {"team": "a"}})
    world.wait_ready("plain")
    assert variables(world, "plain")["HTTPS_PROXY"] == "http://proxy:3128"
    world.apply("plain", engine={"maxNumSeqs": 64})
    world.wait_ready("plain")
    assert variables(world, "plain")["HTTPS_PROXY"] == "http://other:3128"
    world.wait_condition("UpdateAvailable", "False", "UpToDate", name="plain")


def test_defaults_that_are_wrong_stop_new_plans_and_nothing_that_runs(
    world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(world, defaults=defaults())
    world.apply("plain")
    world.wait_ready("plain")
    running = pods(world)
    operator.kill()
    wrong = defaults(volumeMounts=[{"name": "not-there", "mountPath": "/a"}])
    operator = start_operator(world, defaults=wrong)
    world.apply("new")
    told = world.wait_condition("Planned", "False", "SourceUnavailable", name="new")
    assert "chart value defaults.pod.volumeMounts is wrong" in told["message"]
    assert world.condition("Stalled", "new")["status"] == "False"
    assert world.condition("Ready", "plain")["status"] == "True"
    assert pods(world) == running
    assert operator.returncode is None
    operator.kill()
    start_operator(world, defaults=defaults())
    world.wait_ready("new")
