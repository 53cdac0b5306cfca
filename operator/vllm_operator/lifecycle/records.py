"""The few facts of an object that decisions read; ``reading`` takes them from it.

A thousand servers with their children are tens of megabytes of JSON and a multiple of that as
Python objects. Records are slotted, and the two things that are needed whole (the server and its
pinned revision) are packed as compressed JSON.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

from .containers import Beside
from .endings import Ending

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
    """An object that is applied for a server, and of what runs its pods how far it is."""

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
    """Why the API server refuses pods of it."""
    refused_since: str = ""
    woken: str = ""
    """The annotation by which a ReplicaSet of it was last woken."""
    template: str = ""
    """Of which plan's pod template its newest pods are."""
    min_ready_seconds: int = 0
    paused: bool = False
    trial: str = ""
    """The annotation that says which trial is held or ended."""
    surroundings: str = ""
    """Where it has that: hash of the live pod template beside what a trial changes."""
    replaced_in_place: str = ""
    """The annotation that says since when pods are replaced in place, and how many had a node."""


@dataclass(frozen=True, slots=True)
class PodRecord(Record):
    """A pod of a server: what explains why it is not ready."""

    template_hash: str | None
    """Of which ReplicaSet or revision of a LeaderWorkerSet it is: their own label."""
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
    failure: str = ""
    """Why the node ended the whole pod, as Kubernetes says it; empty where it has not."""
    created_at: str = ""
    ending: Ending | None = None
    template: str = ""
    """Of which plan's pod template it is."""
    address: str = ""
    node: str = ""
    devices: tuple[tuple[str, int], ...] = ()
    """Extended resources that its containers hold, with their amounts."""
    scheduler_failed: bool = False
    """Whether it has no node because the scheduler itself, or what it asks, failed."""
    ready_since: str = ""
    """When it became ready, where it is."""
    leads: bool = True
    """Whether it answers requests: workers of a group do not, and are ready once they run."""
    waits_for: str = ""
    """What it waits for before its engine loads, or beside it; empty where the engine loads."""
    beside: Beside | None = None
    """Another container that fails, while it is not ready."""
    unprepared: bool = False
    """Whether its node has yet to give it volumes and network, or a claim of its own is yet to be
    made; its events then say what fails."""
    engine_ready: bool = False
    """Whether its engine answers, whatever the pod's other containers do."""

    @property
    def serves(self) -> bool:
        """Whether it answers requests now."""
        return self.ready and self.leads

    @property
    def runs(self) -> bool:
        """Whether its container runs, loading or ready; not while it waits for its next start."""
        alive = self.scheduled and not self.deleting and not self.failed
        return alive and self.started_at is not None and not self.waiting_reason


@dataclass(frozen=True, slots=True)
class RevisionRecord(Record):
    """A pinned plan."""

    controller_uid: str | None
    revision: int
    packed: bytes
    created_at: str = ""
    trial: bool = False
    """Whether it is tried on one pod, and never in force by itself."""

    def data(self) -> dict[str, Any]:
        """What was pinned."""
        data = unpack(self.packed)
        assert isinstance(data, dict)
        return data


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is older; versions that are no numbers are never older.

    Kubernetes 1.35 documents resourceVersions of one resource as comparable integers (KEP-5504),
    and etcd-backed servers always had them so.
    """
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def same_facts(old: PodRecord, new: Record) -> bool:
    """Whether a pod's new record differs from the old one in nothing that is read."""
    return isinstance(new, PodRecord) and replace(new, resource_version=old.resource_version) == old
