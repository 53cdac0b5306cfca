"""What is kept of objects."""

from __future__ import annotations

from vllm_operator.controller.records import pod_record


def test_a_pod_that_its_node_ended_says_why_and_is_not_ready() -> None:
    body = {
        "metadata": {"namespace": "default", "name": "qwen-1"},
        "spec": {},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory. ",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    kept = pod_record(body)
    assert (kept.failure, kept.ready) == ("Evicted: The node was low on resource: memory. ", False)
