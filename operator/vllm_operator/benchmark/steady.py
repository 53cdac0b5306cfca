"""Whether what serves is one plan on all replicas: else nobody knows what a figure is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def unsteady(status: Mapping[str, Any], replicas: int) -> str | None:
    """Why a server is not to be measured now, and what to wait for; None where nothing stops it.

    ``status`` is the server's own.
    """
    return next(_reasons(status, replicas), None)


def _reasons(status: Mapping[str, Any], replicas: int) -> Iterator[str]:
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    ready = int(status.get("readyReplicas") or 0)
    if ready < max(1, replicas):
        why = (conditions.get("Ready") or {}).get("message") or "no condition says why"
        yield (
            f"{ready} of {replicas} replicas serve ({why}); measure it once "
            "`kubectl wait --for=condition=Ready` returns"
        )
    tuned = conditions.get("Tuned") or {}
    if tuned.get("reason") == "InCanary":
        yield (
            f"tuning tries another setting on one of its pods ({tuned.get('message')}); wait for "
            "its verdict, or set spec.autotune.mode to Recommend while you measure"
        )
    progressing = conditions.get("Progressing") or {}
    if progressing.get("status") == "True":
        yield (
            f"its pods are being replaced ({progressing.get('message')}); wait until its condition "
            "Progressing is False"
        )
