"""An API server's memory, for tests of what the operator asks of it: nothing is decided here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from vllm_operator.controller.client import ApiError, Resource
from vllm_operator.manifests.fieldset import field_set
from vllm_operator.manifests.labels import FIELD_MANAGER

Object = dict[str, Any]


NAMESPACE = "default"


class Memory:
    """Keeps what is written, and notes each write.

    Every request must be for the one namespace that there is, and what changes an object must name
    the uid and the resourceVersion that it has.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.writes: list[tuple[str, str, str]] = []
        """Verb, plural and name."""
        self.looks: list[tuple[str, str]] = []
        """Plural and name of what was read by its name."""
        self.refuses: dict[tuple[str, str], ApiError] = {}
        """What answers a verb on a plural."""
        self.absent: set[str] = set()
        """Plurals of kinds that it does not have."""
        self.logs = ""
        self._numbers = itertools.count(1)

    def keep(self, plural: str, body: Mapping[str, Any]) -> Object:
        """Take in an object as it is."""
        number = str(next(self._numbers))
        old = self.objects.get((plural, body["metadata"].get("name", number)), {})
        uid = old.get("metadata", {}).get("uid", f"uid-of-{plural}-{number}")
        changed = body.get("spec") != old.get("spec")
        generation = old.get("metadata", {}).get("generation", 0) + changed
        made = "2026-01-01T10:00:00Z"
        created = {"uid": uid, "creationTimestamp": made, "generation": generation}
        metadata = {"name": number, **created, **body["metadata"], "resourceVersion": number}
        kept = {**old, **body, "metadata": metadata}
        self.objects[plural, metadata["name"]] = kept
        return kept

    def names(self, plural: str) -> list[str]:
        """What there is of a kind."""
        return sorted(name for kind, name in self.objects if kind == plural)

    def _found(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        assert namespace == NAMESPACE
        return self.objects.get((resource.plural, name))

    def _note(self, verb: str, resource: Resource, name: str) -> None:
        refusal = self.refuses.get((verb, resource.plural))
        if refusal is not None:
            raise refusal
        self.writes.append((verb, resource.plural, name))

    async def serves(self, resource: Resource) -> bool:
        return resource.plural not in self.absent

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        self.looks.append((resource.plural, name))
        return self._found(resource, namespace, name)

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        assert body["metadata"]["namespace"] == NAMESPACE
        name = body["metadata"].get("name", "")
        self._note("create", resource, name)
        if self._found(resource, namespace, name) is not None:
            raise ApiError(409, "AlreadyExists", f"{name} exists")
        return self.keep(resource.plural, body)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        sub: str = "",
        *,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        assert isinstance(force, bool)
        self._note("try" if dry_run else f"apply{sub and f' {sub}'}", resource, name)
        live = self._found(resource, namespace, name)
        if dry_run:
            return body
        if live is not None:
            read = {version: body["metadata"].get(version) for version in VERSION}
            assert read == {version: live["metadata"][version] for version in VERSION}
        if sub:
            assert live is not None
            metadata = {**live["metadata"], **body["metadata"]}
            return self.keep(resource.plural, {**live, **body, "metadata": metadata})
        sent = {key: value for key, value in body["metadata"].items() if key not in VERSION}
        entry = {
            "manager": FIELD_MANAGER,
            "operation": "Apply",
            "fieldsV1": field_set({**body, "metadata": sent}),
        }
        return self.keep(resource.plural, {**body, "metadata": {**sent, "managedFields": [entry]}})

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str | None = None
    ) -> None:
        self._note("delete", resource, name)
        found = self._found(resource, namespace, name)
        if found is not None and uid not in (None, found["metadata"]["uid"]):
            raise ApiError(409, "Conflict", "another uid")
        self.objects.pop((resource.plural, name), None)

    async def events_of(self, namespace: str, _uid: str, _limit: int) -> list[Object]:
        assert namespace == NAMESPACE
        return []

    async def log(self, namespace: str, _pod: str, _container: str, **_options: Any) -> str:
        assert namespace == NAMESPACE
        return self.logs


VERSION = ("uid", "resourceVersion")
