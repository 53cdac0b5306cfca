"""When an object is written, with what, and whose is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.controller import apply as applying
from vllm_operator.controller.apply import (
    Applier,
    Mark,
    controlled_by,
    differs,
    is_refusal,
    mark_of,
    owner_of,
    with_applied_hash,
)
from vllm_operator.controller.store import Store
from vllm_operator.errors import ApiError, NameConflict, PredecessorRemains
from vllm_operator.lifecycle.reading import child_record
from vllm_operator.lifecycle.records import ChildRecord

from .fakes import Memory

KEY = ("default", "qwen")
LABELS = {"vllm-operator.io/server": "qwen"}


def owned(uid: str, kind: str = "VLLMServer", name: str = "qwen", **extra: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": uid, "controller": True, **extra}


def service(*owners: dict[str, Any], port: int = 8000) -> dict[str, Any]:
    metadata = {"name": "qwen", "namespace": "default", "labels": LABELS}
    metadata["ownerReferences"] = list(owners)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"port": port}}


class World:
    def __init__(self) -> None:
        self.memory, self.store = Memory(), Store()
        self.sent: list[tuple[dict[str, Any], bool]] = []
        client: Any = self
        self.read: list[str] = []
        self.seconds = 0.0
        self.applier = Applier(client, self.store, lambda: self.seconds)

    async def get(self, *args: Any) -> Any:
        self.read.append(args[2])
        return await self.memory.get(*args)

    async def apply(self, *args: Any, **options: Any) -> Any:
        self.sent.append((args[3], options.get("force", True)))
        return await self.memory.apply(*args, **options)

    async def ours(self, uid: str = "u") -> ChildRecord | None:
        return await self.applier.ensure_ours("Service", KEY, "qwen", uid)


@pytest.mark.parametrize("code", [400, 403, 422])
def test_what_an_object_is_can_be_refused(code: int) -> None:
    assert is_refusal(ApiError(code, "", ""))


@pytest.mark.parametrize("code", [401, 404, 409, 429, 500, 503])
def test_an_outage_or_a_conflict_is_no_refusal(code: int) -> None:
    assert not is_refusal(ApiError(code, "", "no"))


def test_a_field_that_the_schema_does_not_know_is_a_refusal() -> None:
    message = "failed to create typed patch object: .spec.x: field not declared in schema"
    assert is_refusal(ApiError(500, "", message))


def test_an_object_differs_where_it_is_missing_or_its_hash_or_fields_are_others() -> None:
    desired = with_applied_hash(service())
    mark = mark_of(desired)
    record = child_record("Service", desired)
    assert differs(mark, None)
    assert differs(mark, record)
    assert not differs(Mark(record.applied_hash or "", ""), record)
    assert differs(Mark("another", ""), record)


def test_the_hash_is_of_the_object_and_stands_beside_its_other_annotations() -> None:
    plain = service()
    plain["metadata"]["annotations"] = {"a": "b"}
    one = with_applied_hash(plain)["metadata"]["annotations"]
    other = with_applied_hash({**plain, "spec": {}})["metadata"]["annotations"]
    assert one.pop("vllm-operator.io/applied-hash") != other.pop("vllm-operator.io/applied-hash")
    assert one == other == {"a": "b"}


def test_who_controls_an_object_is_said_in_words() -> None:
    mere = {**owned("x"), "controller": False}
    assert owner_of(service(mere, owned("y", "Deployment", "other"))) == (
        "controlled by Deployment other"
    )
    assert owner_of(service(mere)) == "not controlled by this server"
    assert owner_of({"metadata": {}}) == "not controlled by this server"


def test_only_the_controller_controls() -> None:
    assert controlled_by(service(owned("u")), "u")
    assert not controlled_by(service(owned("v")), "u")
    assert not controlled_by(service({**owned("u"), "controller": False}), "u")
    assert not controlled_by({"metadata": {}}, "u")


async def test_a_child_that_no_watch_delivered_is_read_and_known_from_then_on() -> None:
    world = World()
    world.memory.keep("services", service(owned("u")))
    found = await world.ours()
    assert found is not None
    world.memory.objects.clear()
    assert await world.ours() == found


async def test_a_name_that_was_free_a_moment_ago_is_not_looked_for_again_once() -> None:
    world = World()
    for reads in (1, 1, 2, 2):
        assert await world.ours() is None
        assert len(world.read) == reads


@pytest.mark.parametrize(("later", "uid"), [(60.0, "u"), (0.0, "another")])
async def test_a_name_that_was_free_long_ago_or_for_another_server_is_looked_for(
    later: float, uid: str
) -> None:
    world = World()
    assert await world.ours() is None
    world.seconds += later
    world.memory.keep("services", service(owned("x", "Deployment")))
    with pytest.raises(NameConflict):
        await world.ours(uid)


async def test_an_object_that_was_applied_and_is_gone_again_is_looked_for() -> None:
    world = World()
    assert await world.ours() is None
    await world.applier.apply(with_applied_hash(service(owned("u"))), None, KEY, "mark")
    world.store.forget_child("Service", KEY, "qwen")
    assert await world.ours() is not None
    assert len(world.read) == 2


async def test_a_child_of_another_controller_that_is_gone_is_forgotten() -> None:
    world = World()
    kept = world.memory.keep("services", service(owned("v")))
    world.store.observe("Service", kept)
    world.memory.objects.clear()
    assert await world.ours() is None
    assert world.store.child("Service", KEY, "qwen") is None


async def test_an_object_of_a_server_before_of_that_name_is_waited_for() -> None:
    world = World()
    world.memory.keep("services", service(owned("old")))
    with pytest.raises(PredecessorRemains):
        await world.ours()


@pytest.mark.parametrize("owners", [[], [owned("x", name="another")], [owned("x", "Deployment")]])
async def test_an_object_of_anybody_else_is_a_conflict_that_does_not_pass(
    owners: list[dict[str, Any]],
) -> None:
    world = World()
    world.memory.keep("services", service(*owners))
    with pytest.raises(NameConflict) as conflict:
        await world.ours()
    assert not isinstance(conflict.value, PredecessorRemains)


async def test_only_what_is_changed_takes_fields_from_others_and_names_what_was_read() -> None:
    world = World()
    desired = with_applied_hash(service(owned("u")))
    created = await world.applier.apply(desired, None, KEY, "mark")
    await world.applier.apply(desired, created, KEY, "mark")
    (first, force_first), (second, force_second) = world.sent
    assert (force_first, force_second) == (False, True)
    assert "uid" not in first["metadata"]
    assert second["metadata"]["uid"] == created.uid
    assert second["metadata"]["resourceVersion"] == created.resource_version


async def test_the_fields_that_the_api_server_recorded_are_the_mark_from_then_on() -> None:
    world = World()
    desired = with_applied_hash(service(owned("u")))
    computed = world.applier.mark("mark", lambda: desired)
    applied = await world.applier.apply(desired, None, KEY, "mark")
    known = world.applier.mark("mark", lambda: pytest.fail("built twice"))
    assert known == Mark(computed.applied_hash, applied.owned_fields or "")
    assert world.store.child("Service", KEY, "qwen") == applied


def test_marks_are_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "MARKS_LIMIT", 2)
    applier = World().applier
    for number in range(3):
        applier.mark(number, lambda: with_applied_hash(service()))
    assert list(applier._marks) == [2]


async def test_free_names_are_not_remembered_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applying, "MARKS_LIMIT", 2)
    world = World()
    for uid in "abc":
        await world.ours(uid)
    assert list(world.applier._absent) == [("Service", "qwen", "c")]


async def test_what_would_be_refused_is_told_and_nothing_written() -> None:
    world = World()
    assert await world.applier.refusal(service(), KEY) is None
    assert world.memory.names("services") == []
    world.memory.refuses["try", "services"] = ApiError(403, "Forbidden", "quota exceeded")
    told = await world.applier.refusal(service(), KEY)
    assert told == "the API server refuses Service qwen: quota exceeded"
    world.memory.refuses["try", "services"] = ApiError(500, "", "down")
    with pytest.raises(ApiError):
        await world.applier.refusal(service(), KEY)
