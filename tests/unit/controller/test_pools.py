"""Visits of a server that asks for an InferencePool: what they ask of the API server, and tell."""

from __future__ import annotations

import copy

import pytest

from vllm_operator.controller.client import ApiError
from vllm_operator.lifecycle.kinds import SERVERS

from .test_visits import World

ROUTING = {"inferencePool": {"endpointPickerRef": {"name": "picker"}}}
POOLS = "inferencepools"


async def routed() -> World:
    world = World(routing=ROUTING)
    await world.visit()
    assert world.condition("Routed") == ("True", "Applied")
    return world


async def test_a_server_that_asks_for_no_pool_costs_no_request_about_one() -> None:
    world = World()
    world.memory.refuses["apply", POOLS] = ApiError(500, "", "asked all the same")
    await world.visit()
    assert POOLS not in {plural for _, plural, _ in world.memory.writes}
    assert "Routed" not in {one["type"] for one in world.status["conditions"]}


async def test_a_pool_that_stands_is_not_written_again() -> None:
    world = await routed()
    world.memory.writes.clear()
    await world.visit()
    assert POOLS not in {plural for _, plural, _ in world.memory.writes}


async def test_what_a_webhook_says_of_a_pool_is_said_and_it_is_tried_again() -> None:
    world = World(routing=ROUTING)
    world.memory.refuses["apply", POOLS] = ApiError(403, "Forbidden", "the webhook says no")
    assert await world.visit() == 30.0
    assert world.condition("Routed") == ("False", "ObjectRefused")
    assert world.condition("Planned") == ("True", "Sized")


async def test_an_api_server_that_fails_has_the_visit_repeated() -> None:
    world = World(routing=ROUTING)
    world.memory.refuses["apply", POOLS] = ApiError(500, "InternalError", "etcd is away")
    with pytest.raises(ApiError, match="etcd is away"):
        await world.visit()


async def test_a_specification_that_cannot_be_read_leaves_the_pool_and_what_is_said_of_it() -> None:
    world = await routed()
    body = copy.deepcopy(world.memory.objects["vllmservers", "qwen"])
    body["spec"] = {"model": {"id": 7}}
    body["metadata"]["generation"] += 1
    world.store.observe(SERVERS.kind, world.memory.keep("vllmservers", body))
    await world.visit()
    assert world.condition("Planned")[0] == "False"
    assert world.condition("Routed") == ("True", "Applied")
    assert world.memory.names(POOLS) == ["qwen"]


async def test_a_pool_that_may_not_be_deleted_any_more_stops_nothing() -> None:
    world = await routed()
    world.edit()
    world.memory.refuses["delete", POOLS] = ApiError(403, "Forbidden", "cannot delete")
    await world.visit()
    assert "Routed" not in {one["type"] for one in world.status["conditions"]}
