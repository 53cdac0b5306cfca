"""A pod's status from what its containers do. Pure.

Phases, conditions and their words: Kubernetes 1.36, pkg/kubelet/kubelet_pods.go (getPhase) and
pkg/kubelet/status/generate.go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
NEVER = "1970-01-01T00:00:00Z"
"""When a container began that was never started: time 0, as containerd and a kubelet write it."""


@dataclass
class Container:
    """What is known of a container; `state` and `last` are ContainerStates as the API has them."""

    name: str
    image: str
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    identifier: str = ""

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return "running" in self.state

    def wait(self, reason: str, message: str = "") -> None:
        """It waits; what it was before becomes its last state where it had ended."""
        if "terminated" in self.state:
            self.last = self.state
        self.ready = self.started = False
        said = {"message": message} if message else {}
        self.state = {"waiting": {"reason": reason, **said}}

    def run(self, identifier: str, now: str) -> None:
        """Its process has started."""
        if "terminated" in self.state:
            self.last = self.state
        self.identifier = identifier
        self.state = {"running": {"startedAt": now}}

    def end(self, code: int, reason: str, message: str, now: str) -> None:
        """Its process has ended."""
        self.ready = self.started = False
        ended: Object = {"exitCode": code, "reason": reason, "finishedAt": now}
        ended["startedAt"] = self.state.get("running", {}).get("startedAt", NEVER)
        if message:
            ended["message"] = message
        if self.identifier:
            ended["containerID"] = self.identifier
        self.state = {"terminated": ended}

    def status(self) -> Object:
        """A ContainerStatus."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image if self.identifier else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
            **({"containerID": self.identifier} if self.identifier else {}),
        }


def restarts(policy: str, code: int) -> bool:
    """Whether a container that ended so is started again."""
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def phase(policy: str, init: Sequence[Container], containers: Sequence[Container]) -> str:
    """The pod's phase."""
    codes = [one.state["terminated"]["exitCode"] for one in init if "terminated" in one.state]
    if policy == "Never" and any(codes):
        return "Failed"
    if len(codes) < len(init) or any(codes):
        return "Pending"
    states = [one.state for one in containers]
    if any("waiting" in one.state and not one.last for one in containers):
        return "Pending"
    if all("terminated" in state for state in states) and policy != "Always":
        codes = [state["terminated"]["exitCode"] for state in states]
        if not any(codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running"


def conditions(
    pod: Mapping[str, Any],
    init: Sequence[Container],
    containers: Sequence[Container],
    current_phase: str,
    now: str,
    prepared: bool = True,
) -> list[Object]:
    """The kubelet's conditions; a transition time moves only with the condition's status.

    ``prepared``: the pod has its volumes, which a kubelet mounts before it makes the sandbox.
    """
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(current_phase)
    initialized = all(one.state.get("terminated", {}).get("exitCode") == 0 for one in init)
    unready = [one.name for one in containers if not one.ready]
    not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    if over:
        why: tuple[str, str] | None = (over, "")
    else:
        why = not_ready if unready else None
    incomplete = [one.name for one in init if one.state.get("terminated", {}).get("exitCode") != 0]
    not_initialized = (
        "ContainersNotInitialized",
        f"containers with incomplete status: [{' '.join(incomplete)}]",
    )
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    met = {
        one["type"]
        for one in pod.get("status", {}).get("conditions") or []
        if one["status"] == "True"
    }
    missing = [gate for gate in gates if gate not in met]
    gated = (
        (
            "ReadinessGatesNotReady",
            f"corresponding condition of pod readiness gate {missing[0]!r} does not exist.",
        )
        if missing
        else None
    )
    said = [
        _condition("PodReadyToStartContainers", None if prepared else ("", "")),
        _condition("Initialized", None if initialized else not_initialized),
        _condition("ContainersReady", why),
        _condition("Ready", why or gated),
    ]
    former = {one["type"]: one for one in pod.get("status", {}).get("conditions") or []}
    for one in said:
        before = former.get(one["type"], {})
        same = before.get("status") == one["status"]
        one["lastTransitionTime"] = before["lastTransitionTime"] if same else now
    return said


def _condition(kind: str, unless: tuple[str, str] | None) -> Object:
    if unless is None:
        # Empty, not left out: a merge of the patch would keep what stood there.
        return {"type": kind, "status": "True", "reason": None, "message": None}
    return {"type": kind, "status": "False", "reason": unless[0], "message": unless[1] or None}


def pod_status(
    pod: Mapping[str, Any],
    init: Sequence[Container],
    containers: Sequence[Container],
    address: str,
    started: str,
    now: str,
    prepared: bool = True,
) -> Object:
    """The status that the agent owns, for a strategic merge patch."""
    current = phase(pod["spec"].get("restartPolicy", "Always"), init, containers)
    return {
        "phase": current,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "hostIP": "127.0.0.1",
        "hostIPs": [{"$patch": "replace"}, {"ip": "127.0.0.1"}],
        "podIP": address,
        # Merged by address otherwise, beside the one that it had before a restart of the agent.
        "podIPs": [{"$patch": "replace"}, {"ip": address}],
        "startTime": started,
        "conditions": conditions(pod, init, containers, current, now, prepared),
        **_statuses("initContainerStatuses", init),
        **_statuses("containerStatuses", containers),
    }


def _statuses(field_name: str, containers: Iterable[Container]) -> Object:
    found = [container.status() for container in containers]
    return {field_name: found} if found else {}
