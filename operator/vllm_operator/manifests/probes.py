"""The probes of the engine's container.

Startup and readiness ask ``/health``, which answers once the model is loaded. Liveness runs
``scripts/liveness.py`` in the container, with the metrics' names of its vLLM version: it stands
whole in the pod template, so that no other object has to be there, watched and kept in step.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from vllm_operator import datafiles
from vllm_operator.api.base import PORT_NAME
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.versions import Version

STARTUP_PERIOD_SECONDS: Final = 5
LIVENESS_PERIOD_SECONDS: Final = 15
LIVENESS_FAILURES: Final = 4
"""What is hung fails each look, by the state file; a look that did not end in time says nothing of
the engine. Linux from 6.18 to April 2026 starves new processes beside ones that yield, as vLLM's
workers do while they wait: on two such CPUs a script of 0.1 s took up to 115 s (measured)."""

LIVENESS_GAP_SECONDS: Final = 60
"""A state that is older was left by another start, or nobody looked meanwhile."""

ANSWER_SECONDS: Final = 10
HUNG_GRACE_SECONDS: Final = 30
DEFAULT_LIVENESS_BUDGET_SECONDS: Final = 360
"""Above ``VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS`` (300; vllm ``envs.py``): where vLLM itself gives up
on a step, it ends with a message of its own first."""

STATE_FILE: Final = "/tmp/vllm-liveness.json"
MOVING: Final = (
    "promptTokens",
    "generationTokens",
    "stepTokens",
    "kvCacheUsage",
    "requestsWaiting",
    "preemptions",
)
"""Meanings in ``engine/metrics.csv`` of which any moves with a step: a prompt's chunk that gives no
token yet takes blocks of the KV cache."""

Object = dict[str, Any]
HEALTH: Final[Object] = {"path": "/health", "port": PORT_NAME}


def probes(version: str, port: int, startup_budget: float, liveness_budget: int) -> Object:
    """The three probes; budgets in seconds."""
    return {
        "startup_probe": {
            "httpGet": HEALTH,
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": math.ceil(startup_budget / STARTUP_PERIOD_SECONDS),
        },
        "readiness_probe": {
            "httpGet": HEALTH,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "liveness_probe": {
            "exec": {"command": liveness_command(version, port, liveness_budget)},
            "periodSeconds": LIVENESS_PERIOD_SECONDS,
            # Python's start on a node under load comes on top of what is waited for.
            "timeoutSeconds": 2 * ANSWER_SECONDS,
            "failureThreshold": LIVENESS_FAILURES,
            # What hangs has nothing to drain.
            "terminationGracePeriodSeconds": HUNG_GRACE_SECONDS,
        },
    }


def liveness_command(version: str, port: int, budget: int) -> list[str]:
    """The exec probe's command: vLLM's own Python, without packages, and the script."""
    known = metrics(Version.parse(version))
    moving = []
    for meaning in MOVING:
        metric = known.get(meaning)
        if metric is not None:
            moving.append(metric.name + ("_count" if metric.type == "histogram" else ""))
    given = {
        "port": port,
        "running": known["requestsRunning"].name,
        "moving": moving,
        "budget": budget,
        "gap": LIVENESS_GAP_SECONDS,
        "patience": ANSWER_SECONDS,
        "state": STATE_FILE,
    }
    return ["python3", "-IS", "-c", liveness_script(), json.dumps(given, sort_keys=True)]


def liveness_script() -> str:
    """The script's text."""
    return datafiles.text(__package__, "scripts/liveness.py")
