"""The work queue keeps client-go's promises."""

from __future__ import annotations

import asyncio

import pytest

from vllm_operator.controller.queue import WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock, lambda: 1.0)


async def take(queue: WorkQueue[str]) -> str | None:
    """The next key, or None where none is due: a closed or empty queue never blocks a test."""
    task = asyncio.ensure_future(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
        if task.done():
            return task.result()
    task.cancel()
    return None


async def test_a_key_that_is_added_twice_is_worked_on_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert await take(queue) == "a"
    queue.succeed("a")
    assert await take(queue) is None


async def test_keys_come_in_the_order_of_their_adding(queue: WorkQueue[str]) -> None:
    for key in "abc":
        queue.add(key)
    assert [await take(queue) for _ in "abc"] == ["a", "b", "c"]


async def test_a_key_that_is_added_while_active_runs_again_and_never_beside_itself(
    queue: WorkQueue[str],
) -> None:
    queue.add("a")
    assert await take(queue) == "a"
    queue.add("a")
    assert await take(queue) is None
    queue.succeed("a")
    assert await take(queue) == "a"


async def test_a_delayed_add_waits_for_its_time(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    assert await take(queue) is None
    clock.now += 10
    assert await take(queue) == "a"


async def test_of_two_delayed_adds_the_earlier_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 20)
    clock.now += 3
    assert await take(queue) == "a"
    queue.succeed("a")
    clock.now += 100
    assert await take(queue) is None


async def test_an_immediate_add_replaces_a_delayed_one(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert await take(queue) == "a"
    queue.succeed("a")
    clock.now += 20
    assert await take(queue) is None


async def test_failures_double_the_back_off_up_to_its_cap(
    queue: WorkQueue[str], clock: Clock
) -> None:
    delays = []
    queue.add("a")
    for _ in range(14):
        assert await take(queue) == "a"
        delays.append(queue.fail("a"))
        clock.now += delays[-1]
    assert delays[:3] == [0.25, 0.5, 1.0]
    assert delays[-1] == 300


async def test_an_add_cannot_shorten_a_back_off(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    await take(queue)
    delay = queue.fail("a")
    queue.add("a")
    assert await take(queue) is None
    clock.now += delay
    assert await take(queue) == "a"


async def test_a_failure_of_a_key_that_was_added_meanwhile_still_backs_off(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.add("a")
    await take(queue)
    queue.add("a")
    delay = queue.fail("a")
    assert await take(queue) is None
    clock.now += delay
    assert await take(queue) == "a"


async def test_a_success_forgets_the_failures(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    await take(queue)
    clock.now += queue.fail("a")
    await take(queue)
    queue.succeed("a")
    queue.add("a")
    await take(queue)
    assert queue.fail("a") == 0.25


async def test_jitter_takes_at_most_half_of_the_back_off(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock, lambda: 0.0)
    queue.add("a")
    await take(queue)
    assert queue.fail("a") == 0.125


async def test_a_failing_key_does_not_hold_back_others(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await take(queue)
    queue.fail("a")
    queue.add("b")
    assert await take(queue) == "b"


async def test_a_closed_queue_sends_its_workers_home(queue: WorkQueue[str]) -> None:
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.close()
    assert await waiting is None


async def test_nothing_is_remembered_of_a_key_that_succeeded(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await take(queue)
    queue.succeed("a")
    assert queue.idle
    assert not queue._states


async def test_of_stale_reads_the_first_in_a_row_does_not_delay_and_the_second_does(
    queue: WorkQueue[str],
) -> None:
    queue.add("a")
    await take(queue)
    assert queue.fail("a", first_at_once=True) == 0.0
    assert await take(queue) == "a"
    assert queue.fail("a", first_at_once=True) > 0.0
    assert await take(queue) is None


async def test_an_urgent_key_goes_before_ordinary_ones(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("c", urgent=True)
    assert [await take(queue) for _ in "abc"] == ["c", "a", "b"]


async def test_a_waiting_key_becomes_urgent_where_it_is_added_as_such(
    queue: WorkQueue[str],
) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("b", urgent=True)
    assert [await take(queue), await take(queue), await take(queue)] == ["b", "a", None]


async def test_a_key_is_urgent_once(queue: WorkQueue[str]) -> None:
    queue.add("a", urgent=True)
    assert await take(queue) == "a"
    queue.succeed("a")
    queue.add("b")
    queue.add("a")
    assert [await take(queue) for _ in "ab"] == ["b", "a"]


async def test_a_stream_of_urgent_keys_does_not_stop_the_others(queue: WorkQueue[str]) -> None:
    queue.add("ordinary")
    for number in range(16):
        queue.add(f"urgent-{number}", urgent=True)
    taken = [await take(queue) for _ in range(16)]
    assert taken[-1] == "ordinary"


@pytest.mark.parametrize("urgent", [True, False])
async def test_keys_of_one_kind_come_in_the_order_in_which_they_were_added(
    queue: WorkQueue[str], urgent: bool
) -> None:
    for name in "abc":
        queue.add(name, urgent=urgent)
    assert [await take(queue) for _ in "abc"] == ["a", "b", "c"]
