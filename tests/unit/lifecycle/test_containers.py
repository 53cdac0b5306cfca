"""What a pod waits for beside its engine, read as the scheduler and the kubelet write it."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.lifecycle.containers import failing_beside, is_unprepared, waits_for

ON_A_NODE = {"nodeName": "gpu-1"}
RUNNING = {"running": {"startedAt": "2026-01-01T10:00:00Z"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
DONE = {"terminated": {"exitCode": 0}}
TAKEN_UP = {"startTime": "2026-01-01T10:00:00Z"}
NATIVE = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}


def container(name: str = "engine", state: Any = RUNNING, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{name}:1", "state": state, "ready": False, **more}


def pod(
    *containers: dict[str, Any], spec: Any = ON_A_NODE, init: Any = (), **conditions: str
) -> dict[str, Any]:
    given = {"PodScheduled": "True", **conditions}
    status = {
        **TAKEN_UP,
        "conditions": [{"type": kind, "status": status} for kind, status in given.items()],
        "initContainerStatuses": list(init),
        "containerStatuses": list(containers),
    }
    return {"spec": spec, "status": status}


NO_CLAIM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: waiting for ephemeral volume controller to create the "
    'persistentvolumeclaim "qwen-1-cache". not found',
}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            {"spec": {"schedulerName": "volcano"}, "status": {}},
            "the scheduler volcano to look at it",
        ),
        (
            {
                "metadata": {"name": "qwen-1"},
                "spec": {
                    "volumes": [
                        {"name": "cache", "ephemeral": {}},
                        {"name": "a", "persistentVolumeClaim": {"claimName": "files"}},
                        {"name": "tmp", "emptyDir": {}},
                    ]
                },
                "status": {},
            },
            "the scheduler default-scheduler to look at it, or the volume of claim qwen-1-cache, "
            "files (kubectl describe pvc)",
        ),
        (
            pod(spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}),
            "the removal of the scheduling gates kueue.x-k8s.io/admission",
        ),
        (pod(spec={}, PodScheduled="False"), ""),
        (
            {
                "metadata": {"name": "qwen-1"},
                "spec": {"volumes": [{"name": "cache", "ephemeral": {}}]},
                "status": {"conditions": [NO_CLAIM]},
            },
            "claim qwen-1-cache and its volume (kubectl describe pvc)",
        ),
        ({"spec": ON_A_NODE, "status": {}}, "the kubelet of node gpu-1"),
        (
            pod(container(state=CREATING), PodReadyToStartContainers="False"),
            "its volumes and its network",
        ),
        (pod(container(state=CREATING), PodReadyToStartContainers="True"), "its image"),
        (pod(container(state=CREATING)), "its volumes, its network and its image"),
        (pod(), "its volumes, its network and its image"),
        (
            pod(container(state=INITIALIZING), init=[container("fetch")]),
            "init container fetch",
        ),
        (
            pod(
                container(state=INITIALIZING),
                init=[container("fetch", DONE), container("proxy", started=False)],
                spec={**ON_A_NODE, **NATIVE},
            ),
            "init container proxy",
        ),
        (
            pod(init=[container("proxy", started=True)], spec={**ON_A_NODE, **NATIVE}),
            "its volumes, its network and its image",
        ),
        (pod(container(state={"waiting": {"reason": "Odd"}})), "its engine's container"),
        (pod(container(state=RUNNING)), ""),
        (pod(container(state=RUNNING, started=False)), ""),
        (
            pod(container(state=RUNNING, started=True)),
            "its engine, which has loaded, to answer its probe",
        ),
        (
            pod(container(state=RUNNING, started=True, ready=True)),
            "node gpu-1, whose kubelet does not report (kubectl describe node)",
        ),
        (pod(container(ready=True), container("proxy")), "container proxy"),
        (
            pod(
                container(ready=True),
                spec={**ON_A_NODE, "readinessGates": [{"conditionType": "lb"}]},
            ),
            "readiness gate lb",
        ),
    ],
)
def test_a_pod_waits_for_what_stands_before_or_beside_its_engine(
    body: dict[str, Any], what: str
) -> None:
    assert waits_for(body) == what


def crashed(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": "no token"}}


BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}


def test_an_init_container_that_crashes_fails_with_its_last_end() -> None:
    init = container("mesh-init", BACK_OFF, lastState=crashed(126))
    found = failing_beside(pod(container(state=INITIALIZING), init=[init]))
    assert found is not None
    assert (found.container, found.image, found.waits) == (
        "init container mesh-init",
        "mesh-init:1",
        "",
    )
    assert found.ending == "exit code 126, reason Error, message no token"


def test_it_fails_also_while_it_is_tried_again() -> None:
    init = container("mesh-init", RUNNING, lastState=crashed(1))
    assert failing_beside(pod(container(state=INITIALIZING), init=[init])) is not None


def test_one_that_ended_well_after_a_crash_does_not_fail() -> None:
    init = container("mesh-init", DONE, lastState=crashed(1))
    assert failing_beside(pod(container(), init=[init])) is None


def test_a_sidecar_whose_image_cannot_be_pulled_fails_with_the_kubelet_s_words() -> None:
    found = failing_beside(pod(container("istio-proxy", NO_IMAGE), container(ready=True)))
    assert found is not None
    assert (found.container, found.waits) == (
        "container istio-proxy",
        "ImagePullBackOff: not found",
    )


def test_a_sidecar_that_is_ready_again_after_a_crash_does_not_fail() -> None:
    sidecar = container("proxy", RUNNING, ready=True, lastState=crashed(1))
    assert failing_beside(pod(container(), sidecar)) is None


def test_the_engine_s_own_failure_is_no_other_container_s() -> None:
    assert failing_beside(pod(container(state=NO_IMAGE))) is None


def test_containers_that_are_being_created_do_not_fail() -> None:
    others = container("proxy", CREATING), container(state=CREATING)
    assert failing_beside(pod(*others, init=[container("fetch", INITIALIZING)])) is None


@pytest.mark.parametrize(
    ("body", "unprepared"),
    [
        (pod(container(state=CREATING), PodReadyToStartContainers="False"), True),
        (pod(container(state=CREATING), PodReadyToStartContainers="True"), False),
        (pod(container(state=CREATING)), True),
        (pod(container(state=INITIALIZING), init=[container("fetch", INITIALIZING)]), True),
        (pod(container(state=INITIALIZING), init=[container("fetch")]), False),
        (pod(container(state={"waiting": {"reason": "ErrImagePull"}})), False),
        (pod(container(state=CREATING, lastState=DONE)), False),
        (pod(container(state=RUNNING)), False),
        ({"spec": ON_A_NODE, "status": {}}, False),
    ],
    ids=[
        "no sandbox",
        "a sandbox",
        "an older kubelet",
        "an older kubelet, with an init container",
        "an init container runs",
        "an image is pulled",
        "a container ran before",
        "the engine runs",
        "not taken up",
    ],
)
def test_a_pod_is_unprepared_until_its_node_gives_it_volumes_and_network(
    body: Any, unprepared: bool
) -> None:
    assert is_unprepared(body) is unprepared
