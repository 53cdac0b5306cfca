"""The operator's process: who is visited when, and what it cannot read."""

from __future__ import annotations

import asyncio
import signal
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


async def test_a_visit_is_counted_by_its_result_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, result in (
        (None, "success"),
        (Stale("changed"), "requeued"),
        (ValueError("a defect"), "error"),
    ):
        acting = operator()

        async def reconcile(_key: Key, error: Exception | None = error) -> None:
            acting.queue.close()  # noqa: B023
            if error is not None:
                raise error

        acting.queue.add(KEY)
        monkeypatch.setattr(acting.reconciler, "reconcile", reconcile)
        await acting.work()
        value = acting.metrics.registry.get_sample_value
        assert value("vllm_operator_reconciles_total", {"result": result}) == 1
        assert value("vllm_operator_reconcile_duration_seconds_count") == 1


def delays(acting: Operator, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the queue is told from then on to wait with each server."""
    told: list[float] = []
    monkeypatch.setattr(acting.queue, "add_after", lambda _key, seconds: told.append(seconds))
    return told


@pytest.mark.parametrize(("spread", "delay"), [(0.0, 0.0), (30.0, 15.0)])
def test_all_servers_are_queued_over_a_time(
    monkeypatch: pytest.MonkeyPatch, spread: float, delay: float
) -> None:
    monkeypatch.setattr(process.random, "random", at(0.5))
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    told = delays(acting, monkeypatch)
    acting.queue_all(spread)
    assert told == []
    acting.synced = True
    acting.queue_all(spread)
    assert told == [delay]


def test_an_edit_forgets_the_failures_before_it_and_a_child_s_news_does_not() -> None:
    acting = operator()
    acting.synced = True
    forgotten: list[Key] = []
    acting.queue.forget = forgotten.append  # type: ignore[method-assign]
    acting.take(DEPLOYMENTS.kind, "ADDED", body(1))
    assert forgotten == []
    acting.take(SERVERS.kind, "ADDED", body(2))
    assert forgotten == [KEY]


def test_a_deletion_takes_the_object_out_and_queues_its_server() -> None:
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    acting.synced = True
    acting.take(SERVERS.kind, "DELETED", body(2))
    assert acting.store.server_keys() == []
    assert queued(acting) == [KEY]


def test_events_are_counted_by_kind() -> None:
    acting = operator()
    acting.take(SERVERS.kind, "ADDED", body(1))
    acting.take("Node", "ADDED", node("one"))
    value = acting.metrics.registry.get_sample_value
    for kind in ("VLLMServer", "Node"):
        assert value("vllm_operator_watch_events_total", {"kind": kind}) == 1


class Enough(Exception):
    """Ends what would go on for ever."""


async def waits(
    acting: Operator,
    monkeypatch: pytest.MonkeyPatch,
    *ends: Exception | None,
    chance: float = 0.5,
) -> tuple[list[float], list[float]]:
    """How long is waited before each resync that ends so, and over what time servers queue."""
    slept: list[float] = []
    spreads: list[float] = []
    outcomes = list(ends)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not outcomes:
            raise Enough

    async def resync() -> None:
        end = outcomes.pop(0)
        if end is not None:
            raise end

    monkeypatch.setattr(process.random, "random", at(chance))
    monkeypatch.setattr(process.asyncio, "sleep", sleep)
    monkeypatch.setattr(acting, "resync", resync)
    monkeypatch.setattr(acting, "queue_all", spreads.append)
    with pytest.raises(Enough):
        await acting.resync_forever()
    return slept, spreads


async def test_the_first_resync_comes_soon_and_the_others_in_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acting = operator(resync_seconds=600.0)
    assert await waits(acting, monkeypatch, None, None) == ([20.0, 600.0, 600.0], [30.0, 30.0])


async def test_no_resync_waits_longer_than_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    acting = operator(resync_seconds=10.0)
    assert (await waits(acting, monkeypatch, None))[0] == [10.0, 10.0]


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 540.0), (1.0, 660.0)])
async def test_resyncs_of_several_operators_drift_apart(
    monkeypatch: pytest.MonkeyPatch, chance: float, seconds: float
) -> None:
    acting = operator(resync_seconds=600.0)
    slept, _ = await waits(acting, monkeypatch, None, chance=chance)
    assert slept[1] == pytest.approx(seconds)


@pytest.mark.parametrize("error", [ApiError(500, "", ""), TemporaryFailure("away")])
async def test_an_outage_postpones_a_resync_and_queues_nobody(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    acting = operator(resync_seconds=600.0)
    assert await waits(acting, monkeypatch, error, None) == ([20.0, 600.0, 600.0], [30.0])


@pytest.mark.parametrize(
    "error", [ApiError(401, "", ""), ApiError(500, "", ""), TemporaryFailure("away")]
)
async def test_the_first_listing_is_tried_again_ever_more_slowly_until_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    acting = operator()
    waited: list[float] = []

    async def wait_for(waiting: Any, seconds: float) -> None:
        waiting.close()
        waited.append(seconds)
        raise TimeoutError

    async def resync() -> None:
        if len(waited) < 7:
            raise error

    monkeypatch.setattr(process.asyncio, "wait_for", wait_for)
    monkeypatch.setattr(acting, "resync", resync)
    await acting._first_sync(asyncio.Event())
    assert waited == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


async def test_nothing_is_listed_any_more_once_the_process_is_to_end() -> None:
    acting = operator()
    acting.client = None  # type: ignore[assignment]
    stop = asyncio.Event()
    stop.set()
    await acting._first_sync(stop)
    await acting.run(stop)
    assert not acting.synced


class Running:
    """An operator whose watches and visits are told what to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.acting = operator(**settings)
        self.stop, self.watching, self.visiting = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.watches_end, self.visit_ends = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self.streaming: bool | None = None
        self.minor = 34
        self.visited: list[str] = []

        async def minor_version() -> int:
            return self.minor

        async def watch(
            _registry: Any, _namespaces: Any, stop: Any, _started: Any, **options: Any
        ) -> None:
            self.streaming = options["streaming"]
            self.watching.set()
            ends = [asyncio.create_task(one.wait()) for one in (stop, self.watches_end)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            if self.error is not None:
                raise self.error

        async def reconcile(key: Key) -> None:
            self.visiting.set()
            await self.visit_ends.wait()
            self.visited.append(key[1])

        client: Any = self.acting.client
        client.lists["vllmservers"] = [[body(1)]]
        client.minor_version = minor_version
        monkeypatch.setattr(process.handlers, "watch_forever", watch)
        monkeypatch.setattr(self.acting.reconciler, "reconcile", reconcile)
        self.task = asyncio.create_task(self.acting.run(self.stop))

    def leader(self) -> float | None:
        return self.acting.metrics.registry.get_sample_value("vllm_operator_leader")


async def test_a_process_that_acts_visits_every_server_and_says_that_it_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch)
    running.visit_ends.set()
    await running.visiting.wait()
    assert running.acting.synced
    assert running.leader() == 1
    running.stop.set()
    await running.task
    assert not running.acting.synced
    assert running.leader() == 0


async def test_a_visit_in_flight_is_finished_on_the_way_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch)
    await running.visiting.wait()
    running.stop.set()
    await asyncio.sleep(0)
    running.visit_ends.set()
    await running.task
    assert running.visited == ["qwen"]


async def test_a_visit_that_hangs_is_not_waited_for_longer_than_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch, drain_seconds=0.01)
    await running.visiting.wait()
    running.stop.set()
    await running.task
    assert running.visited == []


async def test_where_the_lease_is_lost_no_visit_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch)
    await running.visiting.wait()
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert running.visited == []


async def test_a_watch_that_fails_for_good_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch)
    running.visit_ends.set()
    await running.watching.wait()
    running.error = ValueError("the watch failed")
    running.watches_end.set()
    with pytest.raises(ValueError, match="the watch failed"):
        await running.task


@pytest.mark.parametrize(("minor", "streaming"), [(33, False), (34, True)])
async def test_the_first_list_is_a_stream_from_kubernetes_1_34_on(
    monkeypatch: pytest.MonkeyPatch, minor: int, streaming: bool
) -> None:
    running = Running(monkeypatch)
    running.minor = minor
    running.visit_ends.set()
    await running.watching.wait()
    assert running.streaming is streaming
    running.stop.set()
    await running.task


async def test_both_signals_end_the_process_in_order() -> None:
    stop = asyncio.Event()
    process.stop_on_signals(stop)
    loop = asyncio.get_running_loop()
    assert loop.remove_signal_handler(signal.SIGTERM)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert not stop.is_set()


def test_a_standby_is_ready_and_who_acts_is_once_the_first_listing_is_complete() -> None:
    standby = operator(leader_election=True)
    assert standby.not_ready() is None
    acting = operator()
    assert acting.not_ready() == "the first listing is not complete"
    acting.synced = True
    assert acting.not_ready() is None


class Leading:
    """A leader election that leads when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, synced: bool) -> None:
        self.acting, self.stop, self.ends = operator(), asyncio.Event(), asyncio.Event()
        self.acting.synced = synced
        self.ended = ""

        async def lead(*_: Any) -> None:
            try:
                await self.ends.wait()
            except asyncio.CancelledError:
                self.ended = "cancelled"
                raise
            self.ended = "in order"

        monkeypatch.setattr(process, "lead", lead)
        client: Any = self.acting.client
        settings = self.acting.settings
        self.task = asyncio.create_task(
            process._lead_until_stopped(client, settings, "me", self.acting, self.stop)
        )


async def test_a_leader_that_is_stopped_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    leading = Leading(monkeypatch, synced=True)
    leading.stop.set()
    await asyncio.sleep(0)
    leading.ends.set()
    await leading.task
    assert leading.ended == "in order"


async def test_a_follower_that_is_stopped_has_nothing_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leading = Leading(monkeypatch, synced=False)
    await asyncio.sleep(0)
    leading.stop.set()
    await leading.task
    assert leading.ended == "cancelled"


async def test_a_leader_whose_work_ends_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    leading = Leading(monkeypatch, synced=True)
    leading.ends.set()
    await leading.task
    assert not leading.stop.is_set()
