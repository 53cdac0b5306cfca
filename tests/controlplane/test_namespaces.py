"""Namespaces of other people: what they limit by default, and what they put into pods."""

from __future__ import annotations

from typing import Any

import pytest

from support.world import World

pytestmark = pytest.mark.usefixtures("operator")

HELD = {"annotations": {"localcluster.vllm-operator.io/ready-delay": "2h"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
UNREADY = {"imageID": "", "ready": False, "started": False, "restartCount": 0}


def limit(world: World, **limits: Any) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/limitranges"
    body = {"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container", **limits}]}}
    world.cluster.api("POST", path, body)


def told(world: World, reason: str) -> str:
    """The message of the condition, once an event of the same reason stands beside it."""
    message = str(world.wait_condition("Progressing", "True", reason)["message"])
    world.wait(
        lambda: [one for one in world.list("Event") if one["reason"] == reason],
        f"the event {reason}",
    )
    return message


def test_a_default_limit_below_what_is_requested_is_told_with_the_limits_to_set(
    world: World,
) -> None:
    limit(world, default={"cpu": "1", "memory": "512Mi"}, defaultRequest={"cpu": "100m"})
    world.apply()
    message = told(world, "LimitRangeExceeded")
    assert "a LimitRange of the namespace (kubectl get limitranges)" in message
    assert "set spec.pod.resources.limits.cpu and spec.pod.resources.limits.memory" in message
    world.apply(pod={"resources": {"limits": {"cpu": "8", "memory": "32Gi"}}})
    world.wait_ready()


def test_a_limit_range_that_allows_less_is_told_with_its_own_figures(world: World) -> None:
    limit(world, max={"memory": "8Gi"})
    world.apply(pod={"resources": {"limits": {"memory": "32Gi"}}})
    message = told(world, "LimitRangeExceeded")
    assert "maximum memory usage per Container is 8Gi, but limit is 32Gi" in message


def test_a_quota_that_counts_limits_is_told_with_what_the_pod_does_not_say(world: World) -> None:
    hard = {"limits.cpu": "64", "limits.memory": "512Gi"}
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.cluster.api("POST", path, {"metadata": {"name": "limits"}, "spec": {"hard": hard}})
    world.wait(
        lambda: world.cluster.api("GET", f"{path}/limits").get("status", {}).get("used"),
        "the quota to count",
    )
    world.apply()
    message = told(world, "PodRefused")
    assert (
        "ResourceQuota limits counts what the pod does not say: limits.cpu for: engine" in message
    )
    assert "set it in spec.pod.resources" in message
    world.apply(pod={"resources": {"limits": {"cpu": "8", "memory": "32Gi"}}})
    world.wait_ready()


def pod_with(world: World, *, init: Any = (), containers: Any) -> None:
    """A held pod with a status as a kubelet writes it of a pod with injected containers."""
    world.apply(pod=HELD)

    def begun() -> str | None:
        pods = world.list("Pod")
        return pods[0]["metadata"]["name"] if pods and pods[0]["status"].get("podIP") else None

    name = world.wait(begun, "the pod to be taken up")
    status = {"initContainerStatuses": list(init), "containerStatuses": list(containers)}
    world.patch("Pod", name, {"status": status}, "status")


def one(name: str, state: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{name}:1", **UNREADY, "state": state, **more}


def test_an_injected_init_container_that_crashes_is_told_by_its_name(world: World) -> None:
    last = {"terminated": {"exitCode": 126, "reason": "Error", "message": "no token"}}
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    init = one("mesh-init", back_off, lastState=last)
    pod_with(world, init=[init], containers=[one("engine", INITIALIZING)])
    assert "init container mesh-init (mesh-init:1)" in told(world, "ContainerFailed")


def test_an_injected_sidecar_that_cannot_be_pulled_is_told_by_its_name(world: World) -> None:
    no_image = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    ready = {"running": {"startedAt": "2026-01-01T10:00:00Z"}}
    engine = one("engine", ready) | {"ready": True, "started": True}
    pod_with(world, containers=[one("istio-proxy", no_image), engine])
    assert "container istio-proxy (istio-proxy:1)" in told(world, "ContainerFailed")


def test_a_pod_whose_image_is_pulled_is_not_said_to_load(world: World) -> None:
    world.apply(pod=HELD)
    message = world.wait_condition("Progressing", "True", "Preparing")["message"]
    assert "1 waiting for its volumes, its network and its image" in message


def test_a_pod_whose_engine_runs_is_said_to_load(world: World) -> None:
    running = {"running": {"startedAt": "2026-01-01T10:00:00Z"}}
    pod_with(world, containers=[one("engine", running)])
    assert (
        "1 loading the model" in world.wait_condition("Progressing", "True", "Loading")["message"]
    )
