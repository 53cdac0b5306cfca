"""Exact apply: write if and only if the live object is not what we would write."""

from __future__ import annotations

from typing import Any

from vllm_operator.api.base import KIND
from vllm_operator.api.canonical import digest
from vllm_operator.errors import NameConflict, PredecessorRemains
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.fieldset import field_set, field_set_digest

from .client import BY_KIND, Client
from .store import ChildRecord, Key, Store, child_record

Object = dict[str, Any]


def with_applied_hash(desired: Object) -> Object:
    """``desired`` with the hash of itself in an annotation."""
    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), names.APPLIED_HASH: digest(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def applied_hash(desired: Object) -> str:
    """The hash annotation of an object from ``with_applied_hash``."""
    return str(desired["metadata"]["annotations"][names.APPLIED_HASH])


def owner_of(body: Object) -> str:
    """Who controls an object, in words."""
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return f"controlled by {reference['kind']} {reference['name']}"
    return "not controlled by this server"


class Applier:
    """Writes the children of servers."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        self._learned: dict[str, str] = {}
        """Field sets that the API server recorded, by applied hash, where they are not the computed
        ones: a gap in the table of merge keys costs one needless apply and never a loop."""

    async def ensure_ours(self, kind: str, key: Key, name: str, uid: str) -> ChildRecord | None:
        """The record of our child; None where nothing of that name exists.

        A child that no watch delivered is read by name, live: somebody else's does not carry our
        label. Raises NameConflict where it is not controlled by ``uid``.
        """
        known = self._store.child(kind, key, name)
        if known is not None and known.controller_uid == uid:
            return known
        body = await self._client.get(BY_KIND[kind], key[0], name)
        if body is None:
            if known is not None:
                self._store.forget_child(kind, key, name)
            return None
        record = child_record(kind, body)
        if record.controller_uid != uid:
            owner = owner_of(body)
            predecessor = owner == f"controlled by {KIND} {key[1]}"
            raise (PredecessorRemains if predecessor else NameConflict)(kind, name, owner)
        self._store.observe(kind, body)
        return record

    def differs(self, desired: Object, live: ChildRecord | None) -> bool:
        """Whether an apply of ``desired`` (with its hash) would change the live object."""
        if live is None:
            return True
        expected_hash = applied_hash(desired)
        if live.applied_hash != expected_hash:
            return True
        expected = self._learned.get(expected_hash) or field_set_digest(field_set(desired))
        return live.owned_fields != expected

    async def apply(self, desired: Object, live: ChildRecord | None, key: Key) -> ChildRecord:
        """Apply, with the uid and resourceVersion of what was read, and remember the answer."""
        kind, metadata = desired["kind"], desired["metadata"]
        body = desired
        if live is not None:
            read = {"uid": live.uid, "resourceVersion": live.resource_version}
            body = {**desired, "metadata": {**metadata, **read}}
        answer = await self._client.apply(BY_KIND[kind], key[0], metadata["name"], body)
        self._store.observe(kind, answer)
        record = child_record(kind, answer)
        if record.owned_fields is not None and self.differs(desired, record):
            if len(self._learned) >= 10_000:
                self._learned.clear()
            self._learned[applied_hash(desired)] = record.owned_fields
        return record
