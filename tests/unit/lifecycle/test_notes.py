"""Events: what they say, of whom, and no more than Kubernetes takes."""

from __future__ import annotations

from datetime import UTC, datetime

from support.builders import make_server
from vllm_operator.lifecycle.notes import event

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def test_an_event_regards_its_server_and_names_the_process_that_it_comes_from() -> None:
    told = event(make_server(), "Warning", "R", "A", "why", now=NOW, instance="i" * 200)
    assert told == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "qwen-", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000678Z",
        "type": "Warning",
        "reason": "R",
        "action": "A",
        "note": "why",
        "regarding": {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "namespace": "default",
            "name": "qwen",
            "uid": "uid-1",
        },
        "reportingController": "vllm-operator",
        "reportingInstance": "i" * 128,
    }


def test_a_long_note_is_cut_to_whole_characters_within_1000_bytes() -> None:
    told = event(make_server(), "Normal", "R", "A", "é" * 600 + "x", now=NOW, instance="i")
    assert told["note"] == "é" * 500
    odd = event(make_server(), "Normal", "R", "A", "x" + "é" * 600, now=NOW, instance="i")
    assert odd["note"] == "x" + "é" * 499
