"""Pods of a replica on several nodes: one leads and serves HTTP, the others compute.

A LeaderWorkerSet keeps such groups: it numbers the pods, tells each the leader's address, and makes
the whole group anew when one of its pods restarts, as no rank can join an engine that runs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from vllm_operator import datafiles
from vllm_operator.api.plan import Plan
from vllm_operator.engine.versions import Version
from vllm_operator.sizing.plan.node_flags import LEADER_ADDRESS, RANK_FLAG, spans_nodes

WORKER_INDEX: Final = "$(LWS_WORKER_INDEX)"
WORKER_COMPONENT: Final = "worker"
"""Keeps workers out of the Service, which selects the component ``engine``."""

RAY_PORT: Final = 6379

POD_ADDRESS: Final = {
    "name": "VLLM_HOST_IP",
    "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
}
"""vLLM would else guess by a route to the internet (``utils/network_utils.py``, ``get_ip``)."""

Values = dict[str, Any]


def leader_values(values: Mapping[str, Any], plan: Plan) -> Values:
    """Values of the leader's pod template, from those of a pod on one node."""
    command = list(values["command"])
    if not _spans(plan):
        command = _ray("leader", {"nodes": plan.placement.nodes, "port": RAY_PORT}, command)
    return {**values, "command": command, "env": [*values["env"], POD_ADDRESS]}


def worker_values(values: Mapping[str, Any], plan: Plan) -> Values:
    """Values of the other pods' template: no HTTP, hence no probes, no port and no drain."""
    command = _worker_command(list(values["command"]), plan)
    worker = {
        **copy.deepcopy(dict(values)),
        "command": command,
        "env": [*values["env"], POD_ADDRESS],
        "ports": None,
        "lifecycle": None,
        "startup_probe": None,
        "readiness_probe": None,
        "liveness_probe": None,
    }
    worker["pod_labels"]["app.kubernetes.io/component"] = WORKER_COMPONENT
    return worker


def _worker_command(command: list[str], plan: Plan) -> list[str]:
    if not _spans(plan):
        return _ray("worker", {"address": LEADER_ADDRESS, "port": RAY_PORT}, [])
    command[command.index(RANK_FLAG) + 1] = WORKER_INDEX
    return [*command, "--headless"]


def _ray(role: str, given: Mapping[str, Any], command: list[str]) -> list[str]:
    told = json.dumps({"role": role, **given}, sort_keys=True)
    return ["python3", "-c", group_script(), told, *command]


def _spans(plan: Plan) -> bool:
    return spans_nodes(Version.parse(plan.engine.version))


def group_script() -> str:
    """The text of the script that brings up Ray and then runs a command."""
    return datafiles.text(__package__, "scripts/group.py")
