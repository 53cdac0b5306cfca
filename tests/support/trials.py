"""What tests of trials do and look for; the operator's tuner is directed (``support.directed``)."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from . import directed
from .operating import SOURCE_ROOT
from .world import Object, World, flag

STABLE: Final = "1024"
"""``--max-num-seqs`` of the plan."""
TRIED: Final = "64"
HELD: Final = 2147483646
TESTS: Final = SOURCE_ROOT.parent / "tests"
DIRECTED: Final[dict[str, Any]] = {
    "module": "support.directed",
    "environment": {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE_ROOT, TESTS)))},
}
"""Options of an operator whose tuner does what an annotation says."""


def serve(world: World, replicas: int = 2, **spec: Any) -> list[str]:
    """A server that is ready and may be tuned; the uids of its pods."""
    spec.setdefault("autotune", {"mode": "Auto"})
    world.apply(replicas=replicas, gpu={"product": "H100"}, **spec)
    world.wait_ready(timeout=60)
    return sorted(pod["metadata"]["uid"] for pod in world.list("Pod"))


def direct(world: World, wants: str, seqs: str = TRIED) -> None:
    """Say what the tuner is to want."""
    said = json.dumps({"wants": wants, "maxNumSeqs": int(seqs)})
    world.patch("VLLMServer", "qwen", {"metadata": {"annotations": {directed.DIRECTION: said}}})


def pods(world: World, seqs: str) -> list[Object]:
    """Pods with that ``--max-num-seqs`` that are not going."""
    return [
        pod
        for pod in world.list("Pod")
        if flag(pod["spec"]["containers"][0]["command"], "--max-num-seqs") == seqs
        and "deletionTimestamp" not in pod["metadata"]
    ]


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def try_out(world: World, timeout: float = 60) -> Object:
    """Begin a trial; its pod, ready."""
    direct(world, "TRIAL")
    world.wait(
        lambda: [pod for pod in pods(world, TRIED) if is_ready(pod)], "the trial's pod", timeout
    )
    (pod,) = pods(world, TRIED)
    return pod


def is_over(world: World) -> bool:
    """Whether nothing of a trial is left."""
    deployment = world.get("Deployment")
    marked = "vllm-operator.io/trial" in deployment["metadata"]["annotations"]
    return not marked and "minReadySeconds" not in deployment["spec"] and not pods(world, TRIED)


def wait_over(world: World, timeout: float = 60) -> None:
    world.wait(lambda: is_over(world), "the end of the trial", timeout)
    assert flag(world.args(), "--max-num-seqs") == STABLE


def uids(world: World, seqs: str = STABLE) -> list[str]:
    return sorted(pod["metadata"]["uid"] for pod in pods(world, seqs))


def limits(world: World) -> list[int]:
    """``--max-num-seqs`` of each of its pods that is to stay."""
    return [
        int(flag(pod["spec"]["containers"][0]["command"], "--max-num-seqs") or 0)
        for pod in world.list("Pod")
        if "deletionTimestamp" not in pod["metadata"]
    ]


def trials(world: World) -> list[Object]:
    """Trials that are pinned."""
    return [
        one
        for one in world.list("ControllerRevision")
        if one["metadata"]["labels"].get("vllm-operator.io/role") == "trial"
    ]


def created(world: World) -> int:
    """How many pods were ever made for the trial's ReplicaSets."""
    sets = [
        one["metadata"]["name"]
        for one in world.list("ReplicaSet")
        if flag(one["spec"]["template"]["spec"]["containers"][0]["command"], "--max-num-seqs")
        == TRIED
    ]
    events = [one for one in world.list("Event") if one.get("reason") == "SuccessfulCreate"]
    return sum(
        one.get("deprecatedCount") or 1 for one in events if one["regarding"]["name"] in sets
    )
