"""The pure parts of the node agent: statuses, back-off, substitutions, images."""

from __future__ import annotations

from typing import Any

import pytest

from localcluster.agent.backoff import BackOff, duration
from localcluster.agent.images import Image, find, full_reference
from localcluster.agent.places import quantity, resolved
from localcluster.agent.statuses import Container, conditions, phase, pod_status
from localcluster.agent.substitution import Substitution, expand

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"
MOUNTS = {"/models": "/p/models", "/models/lora": "/p/lora", "/tmp": "/p/tmp"}


def container(kind: str, code: int = 0, last: bool = False) -> Container:
    """A container that waits, runs or has ended."""
    found = Container("engine", "image")
    if last:
        found.end(1, "Error", "", NOW)
    if kind == "waiting":
        found.wait("CrashLoopBackOff" if last else "ContainerCreating")
    elif kind == "running":
        found.run("process://1", NOW)
    else:
        found.end(code, "Completed" if code == 0 else "Error", "", NOW)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/models/qwen", "/p/models/qwen"),
        ("--path=/models", "--path=/p/models"),
        ("/models/lora/a", "/p/lora/a"),
        ("http://host/models", "http://host/models"),
        ("/models-old", "/models-old"),
        ("open('/tmp/state')", "open('/p/tmp/state')"),
        ("http://127.0.0.1:8000/tmp", "http://198.18.0.9:8000/tmp"),
        ("--host 0.0.0.0", "--host 198.18.0.9"),
        ("10.127.0.0.1", "10.127.0.0.1"),
    ],
)
def test_paths_and_addresses_are_replaced_where_they_stand_alone(text: str, expected: str) -> None:
    assert Substitution(MOUNTS, "198.18.0.9")(text) == expected


def test_references_are_expanded_as_kubernetes_expands_them() -> None:
    assert expand("$(A)-$$(A)-$(B)-$A", {"A": "1"}) == "1-$(A)-$(B)-$A"


def test_back_off_doubles_up_to_five_minutes() -> None:
    back_off = BackOff()
    waits = [back_off.after_failure(1000.0) for _ in range(8)]
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


def test_back_off_is_forgotten_after_ten_good_minutes() -> None:
    back_off = BackOff()
    for _ in range(4):
        back_off.after_failure(1000.0)
    assert back_off.after_failure(1601.0) == 0


def test_durations_are_written_as_go_writes_them() -> None:
    assert [duration(seconds) for seconds in (10, 80, 300)] == ["10s", "1m20s", "5m0s"]


@pytest.mark.parametrize(
    ("policy", "one", "expected"),
    [
        ("Always", container("waiting"), "Pending"),
        ("Always", container("waiting", last=True), "Running"),
        ("Always", container("running"), "Running"),
        ("Always", container("terminated"), "Running"),
        ("OnFailure", container("terminated", 1), "Running"),
        ("OnFailure", container("terminated", 0), "Succeeded"),
        ("Never", container("terminated", 0), "Succeeded"),
        ("Never", container("terminated", 1), "Failed"),
    ],
)
def test_the_phase_follows_from_the_containers(policy: str, one: Container, expected: str) -> None:
    assert phase(policy, [], [one]) == expected


def test_a_pod_is_pending_until_its_init_containers_have_succeeded() -> None:
    assert phase("Always", [container("running")], [container("waiting")]) == "Pending"


def test_a_failed_init_container_fails_a_pod_that_is_never_restarted() -> None:
    assert phase("Never", [container("terminated", 1)], [container("waiting")]) == "Failed"


def test_a_crash_keeps_how_it_ended_as_the_last_state() -> None:
    crashed = container("terminated", 3)
    crashed.wait("CrashLoopBackOff", "back-off 10s")
    assert crashed.last["terminated"]["exitCode"] == 3


def _ready(status: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in status["conditions"] if one["type"] == "Ready")


def _pod(status: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {}, "status": status or {}}


def test_a_transition_time_moves_only_with_the_status() -> None:
    running = container("running")
    first = pod_status(_pod(), [], [running], "198.18.0.9", NOW, NOW)
    again = pod_status(_pod(first), [], [running], "198.18.0.9", NOW, LATER)
    running.ready = True
    ready = pod_status(_pod(again), [], [running], "198.18.0.9", NOW, LATER)
    times = [_ready(status)["lastTransitionTime"] for status in (first, again, ready)]
    assert times == [NOW, NOW, LATER]


def test_a_readiness_gate_that_is_not_met_keeps_a_pod_from_being_ready() -> None:
    running = container("running")
    running.ready = True
    pod = {**_pod(), "spec": {"readinessGates": [{"conditionType": "example.com/up"}]}}
    found = conditions(pod, [], [running], "Running", NOW)
    assert {one["type"]: one["reason"] for one in found}["Ready"] == "ReadinessGatesNotReady"


def test_the_first_image_that_matches_counts() -> None:
    table = [Image("vllm/*:v0.3?.*"), Image("*")]
    assert find(table, "vllm/vllm-openai:v0.32.0") is table[0]
    assert find(table[:1], "vllm/vllm-openai:v0.9.0") is None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("ghcr.io/a/b@sha256:0", "ghcr.io/a/b@sha256:0"),
    ],
)
def test_references_are_written_in_full(reference: str, expected: str) -> None:
    assert full_reference(reference) == expected


def test_vllm_is_told_the_pods_address() -> None:
    image = Image("*", programs={"vllm": ["/opt/vllm"]})
    command = resolved(["vllm", "serve", "m"], image, "/bin", "198.18.0.9")
    assert command == ["/opt/vllm", "serve", "m", "--host", "198.18.0.9"]


def test_a_program_that_is_nowhere_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"^nothing-of-this-name$"):
        resolved(["nothing-of-this-name"], Image("*"), "/bin", "198.18.0.9")


@pytest.mark.parametrize(("text", "expected"), [("64Mi", 64 << 20), ("1.5G", 1.5e9), ("128", 128)])
def test_quantities_of_memory_are_read(text: str, expected: float) -> None:
    assert quantity(text) == expected


def test_a_pod_without_its_volumes_is_not_ready_to_start_containers() -> None:
    waits, has = (pod_status(_pod(), [], [], "198.18.0.9", NOW, NOW, one) for one in (False, True))

    def ready(status: dict[str, Any]) -> str:
        kind = "PodReadyToStartContainers"
        return next(str(one["status"]) for one in status["conditions"] if one["type"] == kind)

    assert (ready(waits), ready(has)) == ("False", "True")
