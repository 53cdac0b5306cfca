"""A server is measured while it is one plan on all replicas."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.benchmark.steady import unsteady


def status(ready: int, **conditions: tuple[str, str]) -> dict[str, Any]:
    listed = [
        {"type": kind, "status": value, "reason": reason, "message": "its message"}
        for kind, (value, reason) in conditions.items()
    ]
    return {"readyReplicas": ready, "conditions": listed}


def test_a_settled_server_is_measured() -> None:
    found = status(2, Ready=("True", "Ready"), Progressing=("False", "Settled"))
    assert unsteady(found, 2) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "0 of 2 replicas serve"),
        (status(1, Ready=("False", "Loading")), "1 of 2 replicas serve (its message)"),
        (status(2, Tuned=("False", "InCanary")), "tuning tries another setting"),
        (status(2, Progressing=("True", "RollingOut")), "its pods are being replaced"),
    ],
)
def test_a_server_on_its_way_is_not(found: dict[str, Any], words: str) -> None:
    assert words in (unsteady(found, 2) or "")


def test_a_server_without_replicas_is_not() -> None:
    assert "0 of 0 replicas serve" in (unsteady({}, 0) or "")
