"""The operator's process: who is visited when, and what it cannot read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from vllm_operator.controller import process
from vllm_operator.controller.children import Stale
from vllm_operator.controller.client import ApiError, Resource
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.process import GroupsAppeared, Operator
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.errors import TemporaryFailure
from vllm_operator.lifecycle.kinds import DEPLOYMENTS, LEADER_WORKER_SETS, NODES, SERVERS
from vllm_operator.lifecycle.records import Key

from .test_store import body

KEY: Key = ("default", "qwen")


class Pages:
    """Stands for the API server's lists: pages by kind, or the code that a namespace answers."""

    def __init__(self) -> None:
        self.lists: dict[str, list[list[dict[str, Any]]]] = {}
        self.codes: dict[str | None, int] = {}
        self.groups = False

    async def serves(self, _resource: Resource) -> bool:
        return self.groups

    async def pages(
        self, resource: Resource, namespace: str | None, _selector: str | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        if namespace in self.codes:
            raise ApiError(self.codes[namespace], "Refused", "no")
        for page in self.lists.get(resource.plural, [[]]):
            yield page


def operator(**settings: Any) -> Operator:
    client: Any = Pages()
    return Operator(client, Metrics(), OperatorSettings(workers=1, **settings), "test")


async def after(monkeypatch: pytest.MonkeyPatch, answer: float | Exception | None) -> list[Any]:
    """What the queue is told of a server whose visit ends so."""
    acting = operator()
    told: list[Any] = []

    async def reconcile(_key: Key) -> float | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fail(_key: Key, *, first_at_once: bool = False) -> float:
        told.append("again at once" if first_at_once else "again after the back-off")
        acting.queue.close()
        return 0.0

    def succeed(_key: Key) -> None:
        told.append("done")
        acting.queue.close()

    acting.queue.add(KEY)
    monkeypatch.setattr(acting.reconciler, "reconcile", reconcile)
    monkeypatch.setattr(acting.queue, "fail", fail)
    monkeypatch.setattr(acting.queue, "succeed", succeed)
    monkeypatch.setattr(acting.queue, "add_after", lambda _key, seconds: told.append(seconds))
    await acting.work()
    assert acting.oldest_seconds() == 0.0
    return told


async def test_what_was_read_too_late_is_visited_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await after(monkeypatch, Stale("changed")) == ["again at once"]


@pytest.mark.parametrize(
    "error", [ApiError(500, "", ""), TemporaryFailure("away"), ValueError("a defect")]
)
async def test_what_failed_is_visited_again_after_the_back_off(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert await after(monkeypatch, error) == ["again after the back-off"]


async def test_a_visit_that_asks_for_another_gets_it_in_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await after(monkeypatch, 12.5) == [12.5, "done"]
    assert await after(monkeypatch, None) == ["done"]


def queued(acting: Operator) -> list[Key]:
    acting.queue.close()
    return [*acting.queue._urgent, *acting.queue._ordinary]


def test_news_of_a_server_queue_it_once_the_first_listing_is_complete() -> None:
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    assert queued(acting) == []
    acting.synced = True
    acting.take(SERVERS.kind, "MODIFIED", body(2))
    assert queued(acting) == [KEY]


def test_an_edit_goes_before_what_children_tell() -> None:
    acting = operator()
    acting.synced = True
    acting.take(
        DEPLOYMENTS.kind,
        "ADDED",
        body(1, metadata={"labels": {"vllm-operator.io/server": "other"}}),
    )
    acting.take(SERVERS.kind, "ADDED", body(2))
    assert queued(acting)[0] == KEY


def node(name: str, product: str = "NVIDIA-H100-80GB-HBM3") -> dict[str, Any]:
    amounts = {"nvidia.com/gpu": "8"}
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": "8"}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def test_a_node_concerns_every_server_and_one_that_changes_nothing_none() -> None:
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    acting.synced = True
    acting.take("Node", "ADDED", node("one"))
    assert queued(acting) == [KEY]
    again = operator()
    again.take(SERVERS.kind, "ADDED", body(1))
    again.take("Node", "ADDED", node("one"))
    again.synced = True
    again.take("Node", "MODIFIED", node("one"))
    assert queued(again) == []
    again.take("Node", "DELETED", node("one"))
    assert queued(again) == [KEY]


async def test_a_resync_finds_what_no_watch_delivered_and_who_is_gone() -> None:
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    acting.client.lists["vllmservers"] = [[body(5, "new")]]  # type: ignore[attr-defined]
    acting.client.lists["nodes"] = [[node("one")], [node("two")]]  # type: ignore[attr-defined]
    acting.nodes.observe(node("gone"))
    await acting.resync()
    assert acting.store.server_keys() == [("default", "new")]
    assert [offer.nodes for offer in acting.nodes.offers()] == [2]
    assert acting.reconciler.recheck == {("default", "new")}
    assert set(queued(acting)) == {KEY, ("default", "new")}


async def test_leader_worker_sets_that_appear_while_acting_start_the_process_afresh() -> None:
    acting = operator()
    acting.client.groups = True  # type: ignore[attr-defined]
    await acting.resync()
    assert acting.inputs.groups
    later = operator()
    later.synced = True
    later.client.groups = True  # type: ignore[attr-defined]
    with pytest.raises(GroupsAppeared):
        await later.resync()


@pytest.mark.parametrize("nodes", [True, False])
@pytest.mark.parametrize("groups", [True, False])
async def test_nodes_and_groups_are_watched_where_they_may_be_and_are(
    monkeypatch: pytest.MonkeyPatch, nodes: bool, groups: bool
) -> None:
    class Watching(Exception):
        pass

    def build(_take: Any, _configuration: Any, watched: list[Resource]) -> None:
        asked.extend(watched)
        raise Watching

    asked: list[Resource] = []
    monkeypatch.setattr(process.handlers, "build_registry", build)
    acting = operator(watch_nodes=nodes)
    acting.client.groups = groups  # type: ignore[attr-defined]
    with pytest.raises(Watching):
        await acting.run(asyncio.Event())
    assert (NODES in asked, LEADER_WORKER_SETS in asked) == (nodes, groups)


@pytest.mark.parametrize("code", [403, 404])
async def test_a_namespace_that_cannot_be_read_is_left_out(code: int) -> None:
    acting = operator(namespaces=("a", "b"))
    acting.client.codes["a"] = code  # type: ignore[attr-defined]
    await acting._leave_out_refused_namespaces()
    assert acting.namespaces == ("b",)


async def test_where_no_namespace_can_be_read_or_the_server_fails_that_is_an_error() -> None:
    acting = operator(namespaces=("a", "b"))
    acting.client.codes.update(a=403, b=404)  # type: ignore[attr-defined]
    with pytest.raises(ApiError):
        await acting._leave_out_refused_namespaces()
    failing = operator(namespaces=("a", "b"))
    failing.client.codes["a"] = 500  # type: ignore[attr-defined]
    with pytest.raises(ApiError):
        await failing._leave_out_refused_namespaces()


def at(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def test_a_visit_that_takes_longer_than_five_minutes_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acting = operator()
    assert acting.stuck() is None
    acting._started[KEY], acting._started["default", "younger"] = 1000.0, 1290.0
    monkeypatch.setattr(process.time, "monotonic", at(1300.0))
    assert acting.stuck() is None
    monkeypatch.setattr(process.time, "monotonic", at(1301.0))
    assert acting.stuck() == "a reconcile runs for 301 s"
