"""What the watches last delivered, in the small: facts that decisions read, not whole objects.

A thousand servers with their children are tens of megabytes of JSON and a multiple of that as
Python objects. The store keeps slotted records of the few facts that decisions need, and packs the
two things that are needed whole (the server and its pinned revision) as compressed JSON.

Reads may be stale, which does no harm: every write carries the uid and resourceVersion of what was
read. Deletions inside a watch gap are never delivered, so a resync replaces the store's content by
a live list from time to time (``begin_listing``, ``end_listing``).
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vllm_operator.api.base import KIND
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.fieldset import field_set_digest

Key = tuple[str, str]
"""Namespace and name of a server."""


def pack(value: Any) -> bytes:
    """Compressed JSON: about a tenth of the text, a fiftieth of the objects."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def unpack(data: bytes) -> Any:
    """What ``pack`` packed."""
    return json.loads(zlib.decompress(data))


@dataclass(frozen=True, slots=True)
class Record:
    """What every record holds."""

    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class ServerRecord(Record):
    """A VLLMServer; ``packed`` holds metadata, spec and status."""

    deleting: bool
    packed: bytes

    def body(self) -> dict[str, Any]:
        """The resource, without managedFields."""
        body = unpack(self.packed)
        assert isinstance(body, dict)
        return body


@dataclass(frozen=True, slots=True)
class ChildRecord(Record):
    """A Deployment or Service of ours, and for a Deployment how far it is."""

    kind: str
    controller_uid: str | None
    applied_hash: str | None
    owned_fields: str | None
    """Digest of the field set under our manager's Apply entry; None where there is none."""

    deleting: bool = False
    generation: int = 0
    observed_generation: int = 0
    spec_replicas: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    in_place: bool = False
    deadline_exceeded: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodRecord(Record):
    """A pod of a server: what explains why it is not ready."""

    template_hash: str | None
    deleting: bool
    scheduled: bool
    unschedulable_since: str | None
    unschedulable_message: str
    ready: bool
    waiting_reason: str
    waiting_message: str
    last_exit: str
    """How the container ended the last time."""
    restarts: int
    started_at: str | None
    failed: bool


@dataclass(frozen=True, slots=True)
class RevisionRecord(Record):
    """A pinned plan."""

    controller_uid: str | None
    revision: int
    packed: bytes

    def data(self) -> dict[str, Any]:
        """What was pinned."""
        data = unpack(self.packed)
        assert isinstance(data, dict)
        return data


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = body["metadata"]
    return {
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "resource_version": metadata.get("resourceVersion", ""),
    }


def _controller_uid(body: Mapping[str, Any]) -> str | None:
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def server_record(body: Mapping[str, Any]) -> ServerRecord:
    """A VLLMServer as it is kept."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = {**body, "metadata": metadata}
    deleting = "deletionTimestamp" in metadata
    return ServerRecord(**_metadata(body), deleting=deleting, packed=pack(kept))


def owned_fields(body: Mapping[str, Any]) -> str | None:
    """Digest of the field set that our last apply still owns."""
    for entry in body["metadata"].get("managedFields") or []:
        if (
            entry.get("manager") == names.FIELD_MANAGER
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            return field_set_digest(entry.get("fieldsV1") or {})
    return None


def child_record(kind: str, body: Mapping[str, Any]) -> ChildRecord:
    """A child as it is kept."""
    metadata = body["metadata"]
    common: dict[str, Any] = {
        **_metadata(body),
        "kind": kind,
        "controller_uid": _controller_uid(body),
        "applied_hash": (metadata.get("annotations") or {}).get(names.APPLIED_HASH),
        "owned_fields": owned_fields(body),
        "deleting": "deletionTimestamp" in metadata,
    }
    if kind != "Deployment":
        return ChildRecord(**common)
    spec, status = body["spec"], body.get("status") or {}
    progressing: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item["type"] == "Progressing"), {}
    )
    failure: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item["type"] == "ReplicaFailure"), {}
    )
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    return ChildRecord(
        **common,
        generation=metadata.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        spec_replicas=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        available_replicas=status.get("availableReplicas", 0),
        in_place=rolling.get("maxSurge") == 0,
        deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
        message=failure.get("message", ""),
    )


def pod_record(body: Mapping[str, Any]) -> PodRecord:
    """A pod as it is kept."""
    metadata, status = body["metadata"], body.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    unschedulable = scheduled.get("status") == "False"
    container: Mapping[str, Any] = next(iter(status.get("containerStatuses") or []), {})
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    exited = f"last exit code {last.get('exitCode')} ({last.get('reason', 'Error')})"
    return PodRecord(
        **_metadata(body),
        template_hash=(metadata.get("labels") or {}).get("pod-template-hash"),
        deleting="deletionTimestamp" in metadata,
        scheduled=bool((body.get("spec") or {}).get("nodeName")),
        unschedulable_since=scheduled.get("lastTransitionTime") if unschedulable else None,
        unschedulable_message=scheduled.get("message", "") if unschedulable else "",
        ready=conditions.get("Ready", {}).get("status") == "True",
        waiting_reason=waiting.get("reason") or "",
        waiting_message=(waiting.get("message") or "")[:400],
        last_exit=exited if last else "",
        restarts=container.get("restartCount", 0),
        started_at=status.get("startTime"),
        failed=status.get("phase") == "Failed",
    )


def revision_record(body: Mapping[str, Any]) -> RevisionRecord:
    """A pinned plan as it is kept."""
    return RevisionRecord(
        **_metadata(body),
        controller_uid=_controller_uid(body),
        revision=body["revision"],
        packed=pack(body.get("data") or {}),
    )


SERVER: Final = "VLLMServer"
DEPLOYMENT: Final = "Deployment"
SERVICE: Final = "Service"
REVISION: Final = "ControllerRevision"
POD: Final = "Pod"
GRAVES_LIMIT: Final = 20_000
"""How many deleted uids are remembered: an event may come after its object's deletion."""

KINDS: Final = (SERVER, DEPLOYMENT, SERVICE, REVISION, POD)


def record_of(kind: str, body: Mapping[str, Any]) -> Record:
    """The record of an object of a watched kind."""
    if kind == SERVER:
        return server_record(body)
    if kind == POD:
        return pod_record(body)
    if kind == REVISION:
        return revision_record(body)
    return child_record(kind, body)


def server_key(kind: str, body: Mapping[str, Any]) -> Key | None:
    """The server that an object speaks of: its controller, else what its label says."""
    metadata = body["metadata"]
    namespace = metadata.get("namespace", "")
    if kind == SERVER:
        return (namespace, metadata["name"])
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["kind"] == KIND:
            return (namespace, reference["name"])
    name = (metadata.get("labels") or {}).get(names.SERVER_LABEL)
    return None if name is None else (namespace, name)


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is older; versions that are no numbers are never older.

    Kubernetes 1.35 documents resourceVersions of one resource as comparable integers (KEP-5504),
    and etcd-backed servers always had them so.
    """
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


class Store:
    """Records by kind and by the server that they belong to."""

    def __init__(self) -> None:
        self._records: dict[str, dict[Key, dict[str, Record]]] = {kind: {} for kind in KINDS}
        self._seen: dict[str, set[tuple[Key, str]]] = {}
        self._graves: OrderedDict[str, None] = OrderedDict()

    def observe(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Take in an object; the key of its server where that is news, else None."""
        key = server_key(kind, body)
        if key is None:
            return None
        name = body["metadata"]["name"]
        if str(body["metadata"].get("uid")) in self._graves:
            return None  # an event or a listing from before its deletion
        if kind in self._seen:
            self._seen[kind].add((key, name))
        mine = self._records[kind].setdefault(key, {})
        old = mine.get(name)
        if old is not None:
            version = body["metadata"].get("resourceVersion", "")
            if version == old.resource_version or is_older(version, old.resource_version):
                return None  # of whichever uid: versions of one resource are comparable
        record = record_of(kind, body)
        mine[name] = record
        return None if isinstance(old, PodRecord) and _same_facts(old, record) else key

    def remove(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Take an object out; the key of its server where it stood here."""
        key = server_key(kind, body)
        if key is None:
            return None
        self._graves[str(body["metadata"].get("uid"))] = None
        if len(self._graves) > GRAVES_LIMIT:
            self._graves.popitem(last=False)
        mine = self._records[kind].get(key, {})
        old = mine.get(body["metadata"]["name"])
        if old is None or old.uid != body["metadata"].get("uid"):
            return None  # a successor of the same name is already known
        self._drop(kind, key, old.name)
        return key

    def begin_listing(self, kind: str) -> None:
        """From here on, note what is observed of ``kind``."""
        self._seen[kind] = set()

    def end_listing(self, kind: str, namespaces: Iterable[str]) -> set[Key]:
        """Drop what was not observed since ``begin_listing``; the keys that lost something.

        ``namespaces`` are those that were listed; empty means all.
        """
        seen = self._seen.pop(kind)
        listed = set(namespaces)
        lost: set[Key] = set()
        for key, mine in list(self._records[kind].items()):
            if listed and key[0] not in listed:
                continue
            for name in [name for name in mine if (key, name) not in seen]:
                self._drop(kind, key, name)
                lost.add(key)
        return lost

    def forget_child(self, kind: str, key: Key, name: str) -> None:
        """Drop a record that proved wrong (the API server knows better)."""
        self._drop(kind, key, name)

    def server_keys(self) -> list[Key]:
        """All servers."""
        return list(self._records[SERVER])

    def server(self, key: Key) -> ServerRecord | None:
        """The server itself."""
        record = self._records[SERVER].get(key, {}).get(key[1])
        return record if isinstance(record, ServerRecord) else None

    def child(self, kind: str, key: Key, name: str) -> ChildRecord | None:
        """One Deployment or Service that carries the server's label."""
        record = self._records[kind].get(key, {}).get(name)
        return record if isinstance(record, ChildRecord) else None

    def pods(self, key: Key) -> list[PodRecord]:
        """The server's pods, by name."""
        mine = self._records[POD].get(key, {}).values()
        found = [record for record in mine if isinstance(record, PodRecord)]
        return sorted(found, key=lambda record: record.name)

    def revisions(self, key: Key, uid: str) -> list[RevisionRecord]:
        """The pinned plans of the server with that uid, oldest first."""
        found = [
            record
            for record in self._records[REVISION].get(key, {}).values()
            if isinstance(record, RevisionRecord) and record.controller_uid == uid
        ]
        return sorted(found, key=lambda record: record.revision)

    def _drop(self, kind: str, key: Key, name: str) -> None:
        mine = self._records[kind].get(key)
        if mine is not None:
            mine.pop(name, None)
            if not mine:
                del self._records[kind][key]


def _same_facts(old: PodRecord, new: Record) -> bool:
    return isinstance(new, PodRecord) and replace(new, resource_version=old.resource_version) == old
