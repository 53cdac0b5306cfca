"""What is kept of objects."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from vllm_operator.lifecycle.reading import (
    child_record,
    owned_fields,
    pod_record,
    revision_record,
    server_key,
    server_record,
)
from vllm_operator.lifecycle.records import is_older

METADATA: dict[str, Any] = {
    "namespace": "team",
    "name": "qwen",
    "uid": "u1",
    "resourceVersion": "41",
    "generation": 9,
    "creationTimestamp": "2026-01-01T10:00:00Z",
    "ownerReferences": [
        {"kind": "Other", "name": "o", "uid": "o1"},
        {"kind": "VLLMServer", "name": "served", "uid": "s1", "controller": True},
    ],
}
KNOWN = {"namespace": "team", "name": "qwen", "uid": "u1", "resource_version": "41"}
TEMPLATE = {
    "metadata": {"labels": {"vllm-operator.io/template": "1-a"}},
    "spec": {"containers": []},
}


def told(record: Any) -> dict[str, Any]:
    """What a record says beside which object it is of; nothing of what is empty."""
    said = asdict(record)
    assert {name: said.pop(name) for name in KNOWN} == KNOWN
    return {name: value for name, value in said.items() if value}


def test_of_a_deployment_each_fact_is_kept_as_what_it_is() -> None:
    body = {
        "metadata": {
            **METADATA,
            "deletionTimestamp": "2026-01-01T11:00:00Z",
            "annotations": {
                "vllm-operator.io/applied-hash": "h",
                "vllm-operator.io/in-place-since": "1/2 then",
                "vllm-operator.io/woken": "crowd then 1",
            },
        },
        "spec": {
            "replicas": 2,
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "minReadySeconds": 77,
            "paused": True,
            "template": TEMPLATE,
        },
        "status": {
            "observedGeneration": 8,
            "replicas": 3,
            "updatedReplicas": 4,
            "readyReplicas": 5,
            "availableReplicas": 6,
            "conditions": [
                {"type": "Available", "reason": "ProgressDeadlineExceeded", "message": "no"},
                {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "slow"},
                {"type": "ReplicaFailure", "message": "quota", "lastTransitionTime": "since"},
            ],
        },
    }
    assert told(child_record("Deployment", body)) == {
        "kind": "Deployment",
        "controller_uid": "s1",
        "applied_hash": "h",
        "deleting": True,
        "generation": 9,
        "observed_generation": 8,
        "spec_replicas": 2,
        "replicas": 3,
        "updated_replicas": 4,
        "ready_replicas": 5,
        "available_replicas": 6,
        "in_place": True,
        "deadline_exceeded": True,
        "message": "quota",
        "refused_since": "since",
        "woken": "crowd then 1",
        "template": "1-a",
        "min_ready_seconds": 77,
        "paused": True,
        "replaced_in_place": "1/2 then",
    }


def test_a_deployment_that_its_controller_has_not_seen_has_one_replica_and_no_pod() -> None:
    body = {"metadata": METADATA, "spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}}}}
    assert told(child_record("Deployment", body)) == {
        "kind": "Deployment",
        "controller_uid": "s1",
        "generation": 9,
        "spec_replicas": 1,
    }


def test_what_others_changed_of_a_pod_template_is_only_looked_at_in_a_trial() -> None:
    body = {"metadata": METADATA, "spec": {"template": TEMPLATE}}
    marked = {**METADATA, "annotations": {"vllm-operator.io/trial": "mark"}}
    kept = child_record("Deployment", {**body, "metadata": marked})
    assert kept.trial == "mark"
    assert len(kept.surroundings) == 12
    assert child_record("Deployment", body).surroundings == ""


def test_of_a_group_each_fact_is_kept_as_what_it_is() -> None:
    body = {
        "metadata": METADATA,
        "spec": {
            "replicas": 2,
            "rolloutStrategy": {"rollingUpdateConfiguration": {"maxSurge": 0}},
        },
        "status": {
            "observedGeneration": 8,
            "replicas": 3,
            "updatedReplicas": 4,
            "readyReplicas": 5,
        },
    }
    common = {"kind": "LeaderWorkerSet", "controller_uid": "s1", "generation": 9}
    assert told(child_record("LeaderWorkerSet", body)) == {
        **common,
        "observed_generation": 8,
        "spec_replicas": 2,
        "replicas": 3,
        "updated_replicas": 4,
        "ready_replicas": 5,
        "in_place": True,
    }
    new = {"metadata": METADATA, "spec": {}, "status": {}}
    assert told(child_record("LeaderWorkerSet", new)) == {
        **common,
        "observed_generation": 9,
        "spec_replicas": 1,
    }


def test_of_a_pod_that_serves_each_fact_is_kept_as_what_it_is() -> None:
    body = {
        "metadata": {
            **METADATA,
            "labels": {
                "pod-template-hash": "rs",
                "vllm-operator.io/template": "1-a",
                "app.kubernetes.io/component": "engine",
            },
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [
                {"resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "7", "x/odd": "1k"}}},
                {"resources": {"requests": {"nvidia.com/gpu": "3"}}},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "startTime": "2026-01-01T10:00:02Z",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "early"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T10:05:00Z"},
            ],
            "containerStatuses": [
                {
                    "name": "engine",
                    "ready": True,
                    "restartCount": 3,
                    "state": {"running": {}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                }
            ],
        },
    }
    said = told(pod_record(body))
    assert said.pop("ending")["ends"] == 3
    assert said == {
        "template_hash": "rs",
        "scheduled": True,
        "ready": True,
        "last_exit": "last exit code 137 (OOMKilled)",
        "restarts": 3,
        "started_at": "2026-01-01T10:00:02Z",
        "created_at": "2026-01-01T10:00:00Z",
        "template": "1-a",
        "address": "10.0.0.1",
        "node": "gpu-1",
        "devices": (("nvidia.com/gpu", 2),),
        "ready_since": "2026-01-01T10:05:00Z",
        "leads": True,
        "engine_ready": True,
    }


def test_of_a_pod_without_a_node_the_scheduler_s_words_are_kept() -> None:
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulerError",
        "message": "no GPU",
        "lastTransitionTime": "2026-01-01T10:00:01Z",
    }
    body = {
        "metadata": {
            **METADATA,
            "labels": {
                "leaderworkerset.sigs.k8s.io/template-revision-hash": "lws",
                "app.kubernetes.io/component": "worker",
            },
        },
        "spec": {},
        "status": {"conditions": [scheduled]},
    }
    assert told(pod_record(body)) == {
        "template_hash": "lws",
        "unschedulable_since": "2026-01-01T10:00:01Z",
        "unschedulable_message": "no GPU",
        "scheduler_failed": True,
        "created_at": "2026-01-01T10:00:00Z",
    }


def test_a_pod_without_labels_or_status_is_one_that_leads_and_does_nothing_yet() -> None:
    said = told(pod_record({"metadata": METADATA}))
    assert said == {
        "created_at": "2026-01-01T10:00:00Z",
        "leads": True,
        "waits_for": "the scheduler default-scheduler to look at it",
    }


def test_a_pod_that_is_not_ready_says_which_container_beside_its_engine_fails() -> None:
    crash = {"terminated": {"exitCode": 1, "reason": "Error"}}
    proxy = {"name": "proxy", "image": "p:1", "ready": False, "state": crash}
    engine = {"name": "engine", "ready": True, "state": {"running": {}}}
    status = {"startTime": "t", "containerStatuses": [engine, proxy]}
    body = {"metadata": METADATA, "spec": {"nodeName": "n"}, "status": status}
    kept = pod_record(body)
    assert kept.beside is not None
    assert kept.beside.container == "container proxy"
    assert (kept.waits_for, kept.engine_ready, kept.ready) == ("container proxy", True, False)


def entry(**change: Any) -> dict[str, Any]:
    return {
        "manager": "vllm-operator",
        "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
        **change,
    }


def test_only_what_the_operator_applied_itself_counts_as_its_own_fields() -> None:
    def owned(*entries: dict[str, Any]) -> str | None:
        return owned_fields({"metadata": {"managedFields": list(entries)}})

    ours = owned(entry())
    assert ours is not None
    assert owned(entry(manager="kubectl", fieldsV1={}), entry()) == ours
    assert owned(entry(fieldsV1={})) != ours
    for other in ({"manager": "kubectl"}, {"operation": "Update"}, {"subresource": "scale"}):
        assert owned(entry(**other)) is None
    assert owned_fields({"metadata": {}}) is None


def test_a_server_is_kept_whole_but_for_its_managed_fields() -> None:
    body = {
        "metadata": {**METADATA, "managedFields": [entry()]},
        "spec": {"replicas": 2},
        "status": {"replicas": 1},
    }
    kept = server_record(body)
    assert kept.body() == {**body, "metadata": METADATA}
    assert not kept.deleting
    going = {**body, "metadata": {**METADATA, "deletionTimestamp": "now"}}
    assert server_record(going).deleting


def test_of_a_pinned_plan_its_number_and_whether_it_is_tried_are_kept() -> None:
    body = {"metadata": METADATA, "revision": 7, "data": {"spec": {}}}
    kept = revision_record(body)
    assert (kept.revision, kept.controller_uid, kept.trial) == (7, "s1", False)
    assert kept.data() == {"spec": {}}
    assert kept.created_at == "2026-01-01T10:00:00Z"
    assert revision_record({**body, "data": {"trial": {}}}).trial


@pytest.mark.parametrize(
    ("kind", "metadata", "key"),
    [
        ("VLLMServer", METADATA, ("team", "qwen")),
        ("Pod", METADATA, ("team", "served")),
        ("Pod", {"namespace": "team", "name": "p"}, None),
        (
            "Pod",
            {"namespace": "team", "name": "p", "labels": {"vllm-operator.io/server": "labelled"}},
            ("team", "labelled"),
        ),
        (
            "Pod",
            {
                **METADATA,
                "labels": {"vllm-operator.io/server": "labelled"},
                "ownerReferences": [
                    {"kind": "ReplicaSet", "name": "r", "uid": "r1", "controller": True},
                    {"kind": "VLLMServer", "name": "not-its-controller", "uid": "s2"},
                ],
            },
            ("team", "labelled"),
        ),
    ],
)
def test_an_object_speaks_of_the_server_that_controls_it_or_that_its_label_names(
    kind: str, metadata: dict[str, Any], key: tuple[str, str] | None
) -> None:
    assert server_key(kind, {"metadata": metadata}) == key


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("9", "10", True),
        ("10", "10", False),
        ("11", "10", False),
        ("a", "10", False),
        ("9", "", False),
    ],
)
def test_a_version_is_older_only_where_both_are_numbers(
    version: str, than: str, older: bool
) -> None:
    assert is_older(version, than) is older


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
