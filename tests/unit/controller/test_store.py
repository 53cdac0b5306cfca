"""What is kept of what the watches deliver."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.controller.store import Store
from vllm_operator.lifecycle.kinds import DEPLOYMENTS, PODS, SERVERS

KEY = ("default", "qwen")


def body(version: int, name: str = "qwen", uid: str = "u", **extra: Any) -> dict[str, Any]:
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {"vllm-operator.io/server": "qwen"},
        **extra.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {}, "status": {}, **extra}


@pytest.fixture
def store() -> Store:
    return Store()


def test_news_names_the_server_that_it_concerns(store: Store) -> None:
    assert store.observe(DEPLOYMENTS.kind, body(1)) == KEY


def test_what_is_known_is_no_news(store: Store) -> None:
    store.observe(SERVERS.kind, body(5))
    assert store.observe(SERVERS.kind, body(5)) is None


def test_an_older_version_never_replaces_a_newer_one(store: Store) -> None:
    store.observe(SERVERS.kind, body(10))
    assert store.observe(SERVERS.kind, body(9)) is None
    record = store.server(KEY)
    assert record is not None
    assert record.resource_version == "10"


def test_a_successor_of_the_same_name_replaces_the_old_object(store: Store) -> None:
    store.observe(SERVERS.kind, body(10, uid="old"))
    assert store.observe(SERVERS.kind, body(11, uid="new")) == KEY


def test_a_late_deletion_of_a_predecessor_leaves_its_successor(store: Store) -> None:
    store.observe(SERVERS.kind, body(10, uid="new"))
    assert store.remove(SERVERS.kind, body(9, uid="old")) is None
    assert store.server(KEY) is not None


def test_a_child_belongs_to_its_controller_whatever_its_label_says(store: Store) -> None:
    owner = {"kind": "VLLMServer", "name": "qwen", "uid": "s", "controller": True}
    drifted = {
        "labels": {"vllm-operator.io/server": "other"},
        "ownerReferences": [owner],
    }
    assert store.observe(DEPLOYMENTS.kind, body(1, metadata=drifted)) == KEY


def test_a_pod_s_event_that_changes_no_fact_is_no_news(store: Store) -> None:
    store.observe(PODS.kind, body(1, name="p"))
    assert store.observe(PODS.kind, body(2, name="p")) is None


def test_a_pod_that_becomes_ready_is_news(store: Store) -> None:
    store.observe(PODS.kind, body(1, name="p"))
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert store.observe(PODS.kind, body(2, name="p", status=ready)) == KEY


def test_a_listing_drops_what_it_did_not_hold(store: Store) -> None:
    store.observe(DEPLOYMENTS.kind, body(1))
    store.begin_listing(DEPLOYMENTS.kind)
    assert store.end_listing(DEPLOYMENTS.kind, ()) == {KEY}
    assert store.child(DEPLOYMENTS.kind, KEY, "qwen") is None


def test_a_listing_keeps_what_it_held_and_what_came_meanwhile(store: Store) -> None:
    store.observe(DEPLOYMENTS.kind, body(1))
    store.begin_listing(DEPLOYMENTS.kind)
    store.observe(DEPLOYMENTS.kind, body(1))
    store.observe(DEPLOYMENTS.kind, body(7, name="new", uid="n"))
    assert store.end_listing(DEPLOYMENTS.kind, ()) == set()
    assert store.child(DEPLOYMENTS.kind, KEY, "new") is not None


def test_a_listing_does_not_revive_what_was_deleted_while_it_ran(store: Store) -> None:
    store.observe(DEPLOYMENTS.kind, body(1))
    store.begin_listing(DEPLOYMENTS.kind)
    store.remove(DEPLOYMENTS.kind, body(3))
    store.observe(DEPLOYMENTS.kind, body(1))
    store.end_listing(DEPLOYMENTS.kind, ())
    assert store.child(DEPLOYMENTS.kind, KEY, "qwen") is None


def test_a_listing_of_some_namespaces_leaves_the_others(store: Store) -> None:
    store.observe(DEPLOYMENTS.kind, body(1))
    store.begin_listing(DEPLOYMENTS.kind)
    assert store.end_listing(DEPLOYMENTS.kind, ["elsewhere"]) == set()
    assert store.child(DEPLOYMENTS.kind, KEY, "qwen") is not None


def test_a_server_comes_back_whole_but_for_its_managed_fields(store: Store) -> None:
    server = body(1, spec={"model": {"id": "a/b"}}, metadata={"managedFields": [{"a": 1}]})
    store.observe(SERVERS.kind, server)
    record = store.server(KEY)
    assert record is not None
    assert record.body()["spec"] == {"model": {"id": "a/b"}}
    assert "managedFields" not in record.body()["metadata"]


def test_a_late_event_of_a_predecessor_never_replaces_its_successor(store: Store) -> None:
    store.observe(SERVERS.kind, body(11, uid="new"))
    assert store.observe(SERVERS.kind, body(10, uid="old")) is None
    record = store.server(KEY)
    assert record is not None
    assert record.uid == "new"


def test_a_late_event_of_a_deleted_object_does_not_revive_it(store: Store) -> None:
    store.observe(SERVERS.kind, body(1))
    store.remove(SERVERS.kind, body(3))
    assert store.observe(SERVERS.kind, body(2)) is None
    assert store.server(KEY) is None


def test_of_the_deleted_objects_the_last_twenty_thousand_are_remembered(store: Store) -> None:
    for number in range(20_001):
        store.remove(SERVERS.kind, body(1, uid=f"u{number}"))
    assert store.observe(SERVERS.kind, body(1, uid="u1")) is None
    assert store.observe(SERVERS.kind, body(1, uid="u0")) == KEY


def test_a_pod_of_nobody_is_no_news_and_is_not_kept(store: Store) -> None:
    nobodys = body(1, name="p", metadata={"labels": {}})
    assert store.observe(PODS.kind, nobodys) is None
    assert store.observe(PODS.kind, nobodys | {"spec": {"nodeName": "n"}}) is None
    assert not any(store._records[PODS.kind].values())
