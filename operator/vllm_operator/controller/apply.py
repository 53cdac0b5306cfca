"""Exact apply: write if and only if the live object is not what we would write."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.base import KIND
from vllm_operator.api.canonical import digest
from vllm_operator.errors import ApiError, NameConflict, NamespaceTerminating, PredecessorRemains
from vllm_operator.lifecycle.kinds import BY_KIND
from vllm_operator.lifecycle.reading import child_record
from vllm_operator.lifecycle.records import ChildRecord, Key
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.fieldset import field_set, field_set_digest

from .client import Client
from .store import Store

Object = dict[str, Any]

MARKS_LIMIT: Final = 20_000

ABSENT_SECONDS: Final = 60.0
"""How long a name that was read and free counts as free for its server's next visit. An object that
somebody makes meanwhile is not overwritten: what is believed not to exist is applied without force,
and the conflict leads to a new look."""

REFUSALS: Final = (400, 403, 422)
"""Codes by which the API server, a quota or a webhook refuses an object for what it is."""


def is_refusal(error: ApiError) -> bool:
    """Whether the API server, a quota or a webhook refuses the object for what it is.

    An unknown field makes server-side apply answer with status 500.
    """
    if isinstance(error, NamespaceTerminating):
        return False
    return error.code in REFUSALS or "typed patch object" in error.message


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells whether a live object is the desired one: its hash, and the fields that we own."""

    applied_hash: str
    owned_fields: str


def with_applied_hash(desired: Object) -> Object:
    """``desired`` with the hash of itself in an annotation."""
    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), names.APPLIED_HASH: digest(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def mark_of(desired: Object) -> Mark:
    """The mark of an object from ``with_applied_hash``."""
    applied_hash = desired["metadata"]["annotations"][names.APPLIED_HASH]
    return Mark(str(applied_hash), field_set_digest(field_set(desired)))


def differs(mark: Mark, live: ChildRecord | None) -> bool:
    """Whether an apply of the object with that mark would change the live one."""
    return live is None or Mark(live.applied_hash or "", live.owned_fields or "") != mark


def owner_of(body: Object) -> str:
    """Who controls an object, in words."""
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return f"controlled by {reference['kind']} {reference['name']}"
    return "not controlled by this server"


def controlled_by(body: Object, uid: str) -> bool:
    """Whether the object's controller has that uid."""
    references = body["metadata"].get("ownerReferences") or []
    return any(one.get("controller") and one["uid"] == uid for one in references)


class Applier:
    """Writes the children of servers."""

    def __init__(
        self, client: Client, store: Store, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._store = store
        self._seconds = seconds
        self._marks: dict[Hashable, Mark] = {}
        self._absent: dict[tuple[str, str, str], float] = {}
        """When a name was free, by kind, name and the uid of the server that asked."""

    def knows(self, kind: str, key: Key) -> bool:
        """Whether a watch has delivered an object of the server's name that carries our label."""
        return self._store.child(kind, key, key[1]) is not None

    async def ensure_ours(self, kind: str, key: Key, name: str, uid: str) -> ChildRecord | None:
        """The record of our child; None where nothing of that name exists.

        A child that no watch delivered is read by name, live: somebody else's does not carry our
        label. One that was read a moment ago and did not exist is not read again, once: of many new
        servers each has its Service looked for, and the Service applied in a later visit. Raises
        NameConflict where it is not controlled by ``uid``.
        """
        known = self._store.child(kind, key, name)
        if known is not None and known.controller_uid == uid:
            return known
        read_at = self._absent.pop((kind, name, uid), None)
        if known is None and read_at is not None and self._seconds() - read_at < ABSENT_SECONDS:
            return None
        body = await self._client.get(BY_KIND[kind], key[0], name)
        if body is None:
            if known is not None:
                self._store.forget_child(kind, key, name)
            self._note_absent(kind, name, uid)
            return None
        record = child_record(kind, body)
        if record.controller_uid != uid:
            owner = owner_of(body)
            predecessor = owner == f"controlled by {KIND} {key[1]}"
            raise (PredecessorRemains if predecessor else NameConflict)(kind, name, owner)
        self._store.observe(kind, body)
        return record

    def mark(self, key: Hashable, build: Callable[[], Object]) -> Mark:
        """The mark of the object that ``build`` gives; built once for a key."""
        known = self._marks.get(key)
        if known is None:
            known = self._remember(key, mark_of(build()))
        return known

    async def apply(
        self, desired: Object, live: ChildRecord | None, key: Key, mark_key: Hashable
    ) -> ChildRecord:
        """Apply, with the uid and resourceVersion of what was read, and remember the answer.

        The field set that the API server recorded stands for that object from then on, even where
        it is not the computed one: a gap in the table of merge keys costs a needless apply after a
        restart, and never a loop.
        """
        kind, metadata = desired["kind"], desired["metadata"]
        body = desired
        if live is not None:
            read = {"uid": live.uid, "resourceVersion": live.resource_version}
            body = {**desired, "metadata": {**metadata, **read}}
        # What we believe not to exist may have come meanwhile, as somebody else's: no force there.
        answer = await self._client.apply(
            BY_KIND[kind], key[0], metadata["name"], body, force=live is not None
        )
        self._store.observe(kind, answer)
        record = child_record(kind, answer)
        self._absent.pop((kind, metadata["name"], record.controller_uid or ""), None)
        if record.applied_hash is not None and record.owned_fields is not None:
            self._remember(mark_key, Mark(record.applied_hash, record.owned_fields))
        return record

    async def refusal(self, desired: Object, key: Key) -> str | None:
        """Why the API server would refuse an object, or None; nothing is written."""
        kind, name = desired["kind"], desired["metadata"]["name"]
        try:
            await self._client.apply(BY_KIND[kind], key[0], name, desired, dry_run=True)
        except ApiError as error:
            if not is_refusal(error):
                raise
            return f"the API server refuses {kind} {name}: {error.message}"
        return None

    def _note_absent(self, kind: str, name: str, uid: str) -> None:
        if len(self._absent) >= MARKS_LIMIT:
            self._absent.clear()
        self._absent[kind, name, uid] = self._seconds()

    def _remember(self, key: Hashable, mark: Mark) -> Mark:
        if len(self._marks) >= MARKS_LIMIT:
            self._marks.clear()
        self._marks[key] = mark
        return mark
