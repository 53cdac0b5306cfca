"""A work queue with the semantics of client-go's.

A key is queued at most once. A key that is added while it is worked on is *dirty* and runs again
when its worker is done, never beside it. A delayed add keeps the earliest time. A failure delays
the key's next run by a back-off that doubles to a cap, with jitter, and that an add cannot shorten:
a busy event stream must not turn a failing key into a hot loop.

One thing is not client-go's: keys that were added as urgent (somebody created or edited the object)
go before those that go on with what was begun. Of every ``ORDINARY_SHARE`` keys that are handed out
while both wait, one is an ordinary one, so that no stream of edits stops the rest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_BACKOFF_SECONDS: Final = 0.25
LAST_BACKOFF_SECONDS: Final = 300.0
ORDINARY_SHARE: Final = 16


@dataclass
class _State:
    """What is known of a key that is queued, delayed, active or failing."""

    active: bool = False
    dirty: bool = False
    queued: bool = False
    urgent: bool = False
    due: float | None = None  # of the earliest delayed add
    failures: int = 0
    not_before: float = 0.0  # back-off holds every add until then


@dataclass(order=True)
class _Timer(Generic[Key]):
    due: float
    order: int
    key: Key = field(compare=False)


class WorkQueue(Generic[Key]):
    """Keys to work on. ``clock`` gives seconds (monotonic), ``jitter`` a number from 0 to 1."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._urgent: OrderedDict[Key, None] = OrderedDict()
        self._ordinary: OrderedDict[Key, None] = OrderedDict()
        self._urgent_in_a_row = 0
        self._states: dict[Key, _State] = {}
        self._timers: list[_Timer[Key]] = []
        self._order = itertools.count()
        self._wakeup = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._urgent) + len(self._ordinary)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on (delayed adds apart)."""
        return not len(self) and not any(state.active for state in self._states.values())

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Work on ``key`` as soon as possible, though not before its back-off ends."""
        state = self._states.setdefault(key, _State())
        state.urgent = state.urgent or urgent
        if urgent and key in self._ordinary:
            del self._ordinary[key]
            self._urgent[key] = None
        self.add_after(key, 0.0)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on ``key`` in ``seconds``, or earlier where an earlier add said so."""
        state = self._states.setdefault(key, _State())
        due = max(self._clock() + seconds, state.not_before)
        if seconds <= 0 and due <= self._clock():
            self._enqueue(key, state)
        elif state.due is None or due < state.due:
            state.due = due
            heapq.heappush(self._timers, _Timer(due, next(self._order), key))
            self._wakeup.set()

    async def get(self) -> Key | None:
        """The next key, now active; None once the queue is closed."""
        while True:
            self._release_due()
            if self._closed:
                return None
            if len(self):
                key = self._pop()
                state = self._states[key]
                state.queued = state.urgent = False
                state.active = True
                if len(self):
                    self._wakeup.set()
                return key
            self._wakeup.clear()
            timeout = self._timers[0].due - self._clock() if self._timers else None
            try:
                await asyncio.wait_for(self._wakeup.wait(), timeout)
            except TimeoutError:
                continue

    def succeed(self, key: Key) -> None:
        """The work on ``key`` is done; its failures are forgotten."""
        state = self._states[key]
        state.failures = 0
        state.not_before = 0.0
        self._done(key, state)

    def fail(self, key: Key, *, first_at_once: bool = False) -> float:
        """The work on ``key`` failed; it runs again after the returned seconds, not earlier.

        ``first_at_once``: the first failure in a row does not delay (what was read was stale, and
        has been read again).
        """
        state = self._states[key]
        if first_at_once and not state.failures:
            state.failures = 1
            state.dirty = True
            self._done(key, state)
            return 0.0
        delay = min(FIRST_BACKOFF_SECONDS * 2.0**state.failures, LAST_BACKOFF_SECONDS)
        delay *= 0.5 + 0.5 * self._jitter()
        state.failures = min(state.failures + 1, 32)
        state.not_before = self._clock() + delay
        state.dirty = True
        self._done(key, state)
        return delay

    def forget(self, key: Key) -> None:
        """Drop delayed adds and failures of a key whose object is gone."""
        state = self._states.get(key)
        if state is not None:
            state.due = None
            state.failures = 0
            state.not_before = 0.0

    def close(self) -> None:
        """Let every waiting ``get`` return None."""
        self._closed = True
        self._wakeup.set()

    def _enqueue(self, key: Key, state: _State) -> None:
        state.due = None
        if state.active:
            state.dirty = True
        elif not state.queued:
            state.queued = True
            (self._urgent if state.urgent else self._ordinary)[key] = None
            self._wakeup.set()

    def _pop(self) -> Key:
        fair = self._urgent_in_a_row < ORDINARY_SHARE - 1 or not self._ordinary
        if self._urgent and fair:
            self._urgent_in_a_row += 1
            return self._urgent.popitem(last=False)[0]
        self._urgent_in_a_row = 0
        return self._ordinary.popitem(last=False)[0]

    def _done(self, key: Key, state: _State) -> None:
        state.active = False
        if state.dirty:
            state.dirty = False
            self.add_after(key, max(0.0, state.not_before - self._clock()))
        elif state.due is None and not state.queued and not state.failures:
            del self._states[key]

    def _release_due(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0].due <= now:
            timer = heapq.heappop(self._timers)
            state = self._states.get(timer.key)
            if state is not None and state.due == timer.due:
                self._enqueue(timer.key, state)
