"""Results in the cluster: one ConfigMap for each server, bounded in number and size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.errors import InputError

from .results import Result

KEPT: Final = 10
"""Results of a server that are kept; the oldest go first."""
MOST_BYTES: Final = 700_000
"""Of all results of a server: the API server takes a ConfigMap of 1 MiB."""
RESULTS_LABEL: Final = "vllm-operator.io/benchmarks"
"""On the ConfigMap, with the server's name. Not the label of a server's own objects: pods and
Services of that label are the operator's."""


def config_map_name(server: str) -> str:
    """Of the ConfigMap with a server's results."""
    return f"{server}-benchmarks"


def owner_of(server: str, uid: str) -> dict[str, Any]:
    """What lets an object go with its server, and asks for no right on the server itself."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": server,
        "uid": uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }


def changes(data: Mapping[str, str], result: Result) -> dict[str, str | None]:
    """What to write into the ConfigMap's data: the result, and None for each that goes.

    Raises ``InputError`` where the result alone is larger than all may be.
    """
    text = json.dumps(result.to_json_object(), sort_keys=True, separators=(",", ":"))
    size = len(text.encode())
    if size > MOST_BYTES:
        raise InputError(f"the result has {size} bytes, and {MOST_BYTES} are kept of a server")
    found: dict[str, str | None] = {result.name: text}
    number, total = 1, size
    for name in sorted(data.keys() - {result.name}, reverse=True):
        number, total = number + 1, total + len(data[name].encode())
        if number > KEPT or total > MOST_BYTES:
            found[name] = None
    return found


def config_map(server: str, namespace: str, uid: str) -> dict[str, Any]:
    """The ConfigMap before its first result."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(server),
            "namespace": namespace,
            "labels": {RESULTS_LABEL: server},
            "ownerReferences": [owner_of(server, uid)],
        },
    }


def read(data: Mapping[str, str]) -> list[Result]:
    """The results that can be read, the newest first."""
    found = []
    for name in sorted(data, reverse=True):
        try:
            found.append(Result.from_json_object(json.loads(data[name])))
        except (ValueError, InputError, RecursionError):
            continue  # of another release, or of nobody
    return found
