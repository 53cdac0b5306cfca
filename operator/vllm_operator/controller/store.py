"""What the watches last delivered, in the small: records by kind and by server.

Reads may be stale, which does no harm: every write carries the uid and resourceVersion of what was
read. Deletions inside a watch gap are never delivered, so a resync replaces the store's content by
a live list from time to time (``begin_listing``, ``end_listing``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vllm_operator.lifecycle.kinds import PODS, REVISIONS, SERVERS, STORED
from vllm_operator.lifecycle.reading import record_of, server_key
from vllm_operator.lifecycle.records import (
    ChildRecord,
    Key,
    PodRecord,
    Record,
    RevisionRecord,
    ServerRecord,
    is_older,
    same_facts,
)

GRAVES_LIMIT: Final = 20_000
"""How many deleted uids are remembered: an event may come after its object's deletion."""


class Store:
    """Records by kind and by the server that they belong to."""

    def __init__(self) -> None:
        self._records: dict[str, dict[Key, dict[str, Record]]] = {one.kind: {} for one in STORED}
        self._seen: dict[str, set[tuple[Key, str]]] = {}
        self._graves: OrderedDict[str, None] = OrderedDict()

    def observe(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Take in an object; the key of its server where that is news, else None.

        Of a kind that is not watched nothing is kept: nobody would tell of its changes.
        """
        key = server_key(kind, body)
        if key is None or kind not in self._records:
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
        return None if isinstance(old, PodRecord) and same_facts(old, record) else key

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
        self.forget_child(kind, key, old.name)
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
                self.forget_child(kind, key, name)
                lost.add(key)
        return lost

    def server_keys(self) -> list[Key]:
        """All servers."""
        return list(self._records[SERVERS.kind])

    def server(self, key: Key) -> ServerRecord | None:
        """The server itself."""
        record = self._records[SERVERS.kind].get(key, {}).get(key[1])
        return record if isinstance(record, ServerRecord) else None

    def child(self, kind: str, key: Key, name: str) -> ChildRecord | None:
        """One Deployment or Service that carries the server's label."""
        record = self._records.get(kind, {}).get(key, {}).get(name)
        return record if isinstance(record, ChildRecord) else None

    def pods(self, key: Key) -> list[PodRecord]:
        """The server's pods, by name."""
        mine = self._records[PODS.kind].get(key, {}).values()
        found = [record for record in mine if isinstance(record, PodRecord)]
        return sorted(found, key=lambda record: record.name)

    def all_pods(self) -> list[PodRecord]:
        """The pods of all servers."""
        everything = self._records[PODS.kind].values()
        return [one for mine in everything for one in mine.values() if isinstance(one, PodRecord)]

    def revisions(self, key: Key, uid: str) -> list[RevisionRecord]:
        """The pinned plans of the server with that uid, oldest first."""
        found = [
            record
            for record in self._records[REVISIONS.kind].get(key, {}).values()
            if isinstance(record, RevisionRecord) and record.controller_uid == uid
        ]
        return sorted(found, key=lambda record: record.revision)

    def forget_child(self, kind: str, key: Key, name: str) -> None:
        """Drop a record: its object is gone, or the API server knows better."""
        mine = self._records.get(kind, {}).get(key)
        if mine is not None:
            mine.pop(name, None)
            if not mine:
                del self._records[kind][key]
