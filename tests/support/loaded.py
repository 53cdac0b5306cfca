"""A server whose engines are under a load that is played in real time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from .world import Object, World, condition_of

MODEL: Final = "meta-llama/Llama-3.1-8B-Instruct"
INTERVAL: Final = 0.25
"""Seconds between two scrapes, of which all that tuning waits for is a multiple: a minute in place
of an hour. A machine with more to do than it can misses scrapes, and trials then tell nothing."""

SHORT_OF_SEQUENCES: Final[dict[str, Any]] = {
    "name": "short-of-sequences",
    "minutes": 60,
    "server": {
        "model": MODEL,
        "gpu": "NVIDIA-H100-80GB-HBM3",
        "tensor": 1,
        "version": "0.32.0",
        "replicas": 2,
        "start": {"maxNumSeqs": 14, "maxNumBatchedTokens": 8192, "gpuMemoryUtilization": 0.92},
    },
    "slo": None,
    "lengths": {"prompt": {"mean": 100, "sigma": 0.5}, "output": {"mean": 40, "sigma": 0.5}},
    "arrivals": [{"minutes": 60, "kind": "closed", "clients": 44}],
    "truth": {"overhead": 1.1, "bandwidth": 1.05, "jitter": 0.03},
}
"""Twenty-two clients a pod, and fourteen of them are served at once."""

LONG_REQUESTS: Final = {"promptTokens": 28000, "outputTokens": 2000}
"""What the owner of that server expects, and does not come: room for fourteen at once."""


def server(url: str, **variables: str) -> dict[str, Any]:
    """The specification of that server; ``url`` is where its load is played."""
    play = {"SCRIPTED_LOAD": url, "SCRIPTED_KV_TOKENS": "457760", **variables}
    return {
        "model": {"id": MODEL},
        "gpu": {"product": "H100"},
        "replicas": 2,
        "autotune": {"mode": "Auto"},
        "workload": dict(LONG_REQUESTS),
        "rollout": {"drainSeconds": 1},
        "engine": {
            "image": "scripted/vllm:v0.32.0",
            "env": [{"name": name, "value": value} for name, value in play.items()],
        },
    }


def versions(world: World, since: Object) -> list[Object]:
    """All that a server was after an earlier version of it, one for each write."""
    metadata = since["metadata"]
    query = (
        f"watch=true&timeoutSeconds=1&resourceVersion={metadata['resourceVersion']}"
        f"&fieldSelector=metadata.name={metadata['name']}"
    )
    text = world.cluster.api("GET", f"{world.path('VLLMServer')}?{query}")["text"]
    return [json.loads(line)["object"] for line in text.splitlines()]


def states(servers: Iterable[Object]) -> Iterator[str]:
    """The states of tuning one after the other."""
    for state, _ in groupby(one["status"]["tuning"]["state"] for one in servers):
        yield state


def ready_in_trials(servers: Iterable[Object]) -> bool:
    """Whether Ready was True as long as a trial was held."""
    return all(
        condition_of(one, "Ready")["status"] == "True"
        for one in servers
        if one["status"]["tuning"]["state"] in ("Proposed", "Starting", "Warming", "Judging")
    )
