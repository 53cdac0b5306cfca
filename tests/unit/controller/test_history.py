"""Pinned plans in the API server: numbered, ours, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import OFFER, make_plan, make_planned, make_server
from unit.sizing.examples import inputs_for
from vllm_operator.controller.client import ApiError
from vllm_operator.controller.history import History
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.store import Store
from vllm_operator.errors import Stale
from vllm_operator.lifecycle.kinds import REVISIONS
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.revisions import controller_revision
from vllm_operator.manifests.render import render

from .fakes import Memory

KEY: Key = ("default", "qwen")
SERVER = make_server()
PLANNED = make_planned(*render(SERVER, make_plan(), replace(OFFER, node_labels={})))


def build(number: int) -> dict[str, Any]:
    return controller_revision(SERVER, number, inputs_for(SERVER).to_json_object(), PLANNED)


class World:
    def __init__(self) -> None:
        self.memory, self.store, self.metrics = Memory(), Store(), Metrics()
        client: Any = self.memory
        self.history = History(client, self.store, self.metrics)

    async def pin(self, last_ready: str | None = None) -> list[int]:
        """Numbers of what is pinned then."""
        revisions = await self.history.pin(KEY, SERVER, build, last_ready)
        assert revisions.in_force is not None
        uid = SERVER.metadata.uid
        return [record.revision for record in self.store.revisions(KEY, uid)]

    def written(self) -> float | None:
        name = "vllm_operator_writes_total"
        return self.metrics.registry.get_sample_value(name, {"kind": "ControllerRevision"})


async def test_plans_are_numbered_from_one_on_and_each_write_counted() -> None:
    world = World()
    assert await world.pin() == [1]
    assert await world.pin() == [1, 2]
    assert world.written() == 2


async def test_what_is_beyond_the_history_is_deleted_and_the_plan_that_was_ready_is_not() -> None:
    world = World()
    await world.pin()
    (first,) = world.memory.names("controllerrevisions")
    for _ in range(12):
        numbers = await world.pin(first)
    assert 1 in numbers
    assert len(numbers) < 12
    assert len(world.memory.names("controllerrevisions")) == len(numbers)
    assert world.written() == 13 + 13 - len(numbers)


async def test_a_name_that_is_somebody_else_s_is_passed_over() -> None:
    world = World()
    taken = world.memory.keep("controllerrevisions", {**build(1), "data": "not ours"})
    taken["metadata"]["ownerReferences"] = []
    assert await world.pin() == [2]
    assert taken["data"] == "not ours"


async def test_what_was_pinned_already_is_read_and_the_visit_repeated() -> None:
    world = World()
    world.memory.keep("controllerrevisions", build(1))
    with pytest.raises(Stale):
        await world.pin()
    assert [one.revision for one in world.store.revisions(KEY, SERVER.metadata.uid)] == [1]


async def test_a_refusal_is_no_reason_to_try_the_next_number() -> None:
    world = World()
    world.memory.refuses["create", REVISIONS.plural] = ApiError(403, "Forbidden", "quota")
    with pytest.raises(ApiError, match="quota"):
        await world.pin()
