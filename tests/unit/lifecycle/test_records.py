"""What is kept of objects."""

from __future__ import annotations

from vllm_operator.lifecycle.records import pod_record


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


def test_of_a_long_reason_to_wait_the_end_is_kept() -> None:
    message = f"failed to pull {'x' * 5000}: connection refused"
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": message}}}
    body = {
        "metadata": {"namespace": "default", "name": "qwen-1"},
        "status": {"containerStatuses": [{"name": "engine", **waiting}]},
    }
    assert pod_record(body).waiting_message == message[-4096:]
