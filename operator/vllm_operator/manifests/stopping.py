"""How a pod stops: it leaves the load balancers, finishes its requests, and is killed.

``terminationGracePeriodSeconds`` covers all three: the pause before the engine is told, the drain
(``spec.rollout.drainSeconds``), and a margin. The drain is the engine's own where the version has
``--shutdown-timeout``; before, it aborts at once (vllm ``entrypoints/launcher.py`` up to 0.17), and
the hook that runs before waits for it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from vllm_operator import datafiles
from vllm_operator.engine.defaults import has_flag
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.versions import Version

PRE_STOP_SECONDS: Final = 5
"""Time for endpoints to leave load balancers before the engine is told to stop."""

STOP_MARGIN_SECONDS: Final = 15
"""Time between the end of draining and the kill: the engine tears down its workers."""


def grace_seconds(drain: int) -> int:
    """Seconds between the order to stop and the kill."""
    return PRE_STOP_SECONDS + drain + STOP_MARGIN_SECONDS


def pre_stop(version: str, port: int, drain: int) -> dict[str, Any]:
    """The hook that runs before the engine gets SIGTERM."""
    release = Version.parse(version)
    if has_flag("--shutdown-timeout", release) or not drain:
        return {"sleep": {"seconds": PRE_STOP_SECONDS}}
    known = metrics(release)
    given = {
        "port": port,
        "pause": PRE_STOP_SECONDS,
        "seconds": drain,
        "names": [known[meaning].name for meaning in ("requestsRunning", "requestsWaiting")],
    }
    command = ["python3", "-IS", "-c", drain_script(), json.dumps(given, sort_keys=True)]
    return {"exec": {"command": command}}


def drain_script() -> str:
    """The text of the script that waits."""
    return datafiles.text(__package__, "scripts/drain.py")
