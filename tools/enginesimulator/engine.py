"""One simulated engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import state as at
from .compiled import floats, integers
from .kernel import advance
from .metrics import Buckets
from .seconds import NEVER
from .state import State
from .steps import Disturbance, Hardware, Truth, jitters, slowdowns, step_table

RING: Final = 1024
"""Requests that a new queue holds."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The limits of one engine."""

    max_num_seqs: int
    max_num_batched_tokens: int
    blocks: int
    """KV-cache blocks that requests can have: one less than ``num_gpu_blocks``."""
    block_size: int = 16
    max_num_active_seqs: int | None = None
    watermark: float = 0.0
    prefix_caching: bool = True

    @property
    def cap(self) -> int:
        """The largest number of requests that run at once."""
        active = self.max_num_active_seqs
        return self.max_num_seqs if active is None else min(active, self.max_num_seqs)


@dataclass(frozen=True, slots=True)
class Request:
    """A request of an open load."""

    sent: float
    """Seconds since the simulation's start."""
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of an open load, as columns."""

    number: int
    sent: Any
    arrives: Any
    """When the API server has handed each on: it takes one after the other."""
    prompt: Any
    output: Any
    closed: Any

    @classmethod
    def of(cls, requests: Sequence[Request], request_seconds: float = 0.0) -> Batch:
        """The columns of requests."""
        free, arrives = 0.0, []
        for one in requests:
            free = max(free, one.sent) + request_seconds
            arrives.append(free)
        return cls(
            len(requests),
            floats([one.sent for one in requests]),
            floats(arrives),
            integers([one.prompt for one in requests]),
            integers([one.output for one in requests]),
            integers([0] * len(requests)),
        )


class Engine:
    """An engine in virtual time. Times are seconds since the simulation's start."""

    def __init__(
        self,
        setting: Setting,
        hardware: Hardware,
        truth: Truth,
        buckets: Buckets,
        *,
        started: float = 0.0,
        every: float = NEVER,
        gap_objective: float = NEVER,
        first_objective: float = NEVER,
        shared_prefix: int = 0,
        seed: str = "0",
        pod: int | None = None,
        disturbances: Sequence[Disturbance] | None = None,
        longest_skip: int = 1 << 20,
    ) -> None:
        """``started``: when it is ready; it is scraped first ``every`` seconds' next multiple after
        that. ``pod``: which of the stable ones it is, for disturbances."""
        self.setting = setting
        self.buckets = buckets
        self.request_seconds = hardware.request_seconds * truth.overhead
        self._table = step_table(
            hardware, truth, setting.max_num_seqs, setting.max_num_batched_tokens
        )
        factors, sums, moments = jitters(truth.jitter, seed)
        told = truth.disturbances if disturbances is None else disturbances
        slow_times, slow_factors = slowdowns(told, pod)
        ints = [0] * at.INTS
        slots = setting.cap + 1
        ints[at.PARTIAL] = -1
        ints[at.FREE] = ints[at.LEAST_FREE] = setting.blocks
        ints[at.VACANT] = slots
        due = (started // every + 1) * every if every < NEVER else NEVER
        values = [started, due, every, gap_objective, first_objective, 0.0]
        values += [self.request_seconds, min(factors), max(factors)]
        starts = buckets.starts
        limits = [
            setting.max_num_batched_tokens,
            setting.cap,
            setting.blocks,
            setting.block_size,
            int(setting.watermark * (setting.blocks + 1)),
            shared_prefix // setting.block_size if setting.prefix_caching else 0,
            longest_skip,
            int(setting.prefix_caching),
        ]
        none = [0] * slots
        zero = [0.0] * slots
        own = ("sent", "arrived", "scheduled", "first", "last")
        counted = (
            *("prompt", "output", "generated", "tokens", "computed", "chunk", "base", "since"),
            *("until", "order", "place", "hit", "holds", "lost", "untold", "left_at"),
            *("left_behind", "left", "closed", "decoding", "preempted", "pieces"),
        )
        self.state = State(
            ints=integers(ints),
            floats=floats(values),
            limits=integers(limits),
            edges=floats([edge for edges in buckets.edges for edge in edges]),
            starts=integers(starts),
            histograms=floats([0.0] * (starts[-1] + 2 * at.HISTOGRAMS)),
            samples=floats([0.0]),
            jitters=factors,
            jitter_sums=sums,
            jitter_moments=moments,
            slow_times=slow_times,
            slow_factors=slow_factors,
            pool_prompts=integers([1]),
            pool_outputs=integers([1]),
            queue_at=floats([0.0] * RING),
            queue_sent=floats([0.0] * RING),
            queue_prompt=integers([0] * RING),
            queue_output=integers([0] * RING),
            queue_closed=integers([0] * RING),
            phases=integers([0] * setting.block_size),
            vacant=integers(list(range(slots))[::-1]),
            **{name: floats(zero) for name in own},
            **{name: integers(none) for name in counted},
        )
        self.rows: list[Any] = []
        """Samples since the last ``taken``, in the order of ``state``."""

    @property
    def now(self) -> float:
        """When the last step ended."""
        return float(self.state.floats[at.NOW])

    def count(self, which: int) -> int:
        """One of the figures that ``state`` names."""
        return int(self.state.ints[which])

    @property
    def running(self) -> int:
        """Requests that run."""
        return self.count(at.DECODING) + (self.count(at.PARTIAL) >= 0)

    @property
    def waiting(self) -> int:
        """Requests that arrived or will, and do not run."""
        return self.count(at.TAIL) - self.count(at.HEAD) + self.count(at.PREEMPTED)

    def histogram(self, which: int) -> tuple[float, float]:
        """Count and sum."""
        start, end = self.state.starts[which] + 2 * which, self.state.starts[which + 1] + 2 * which
        held = self.state.histograms
        return float(sum(held[start : end + 1])), float(held[end + 1])

    def send(self, batch: Batch) -> None:
        """Requests that arrive, in the order of their times, none before those sent already."""
        self._room(batch.number)
        state, size = self.state, len(self.state.queue_at)
        done = 0
        while done < batch.number:
            place = state.ints[at.TAIL] & (size - 1)
            some = min(batch.number - done, size - place)
            for ring, column in (
                (state.queue_at, batch.arrives),
                (state.queue_sent, batch.sent),
                (state.queue_prompt, batch.prompt),
                (state.queue_output, batch.output),
                (state.queue_closed, batch.closed),
            ):
                ring[place : place + some] = column[done : done + some]
            state.ints[at.TAIL] += some
            done += some

    def serve_clients(
        self, clients: int, until: float, lengths: Sequence[tuple[int, int]], now: float
    ) -> None:
        """Clients that each send a request now and another whenever they are answered.

        They stop at ``until``. Prompts and outputs are ``lengths``, in turn.
        """
        self.state.floats[at.CLOSED_UNTIL] = until
        self.state = self.state._replace(
            pool_prompts=integers([prompt for prompt, _ in lengths]),
            pool_outputs=integers([output for _, output in lengths]),
        )
        self.state.ints[at.DRAWN] = 0
        self.state.ints[at.LEAVING] = 0
        self._ring(2 * clients)
        self.more_clients(clients, now)

    def more_clients(self, clients: int, now: float) -> None:
        """More of them, or fewer: those leave when they are answered."""
        ints, state = self.state.ints, self.state
        if clients < 0:
            ints[at.LEAVING] += -clients
            return
        stay = min(clients, ints[at.LEAVING])
        ints[at.LEAVING] -= stay
        clients -= stay
        self._room(clients)
        mask = len(self.state.queue_at) - 1
        for _ in range(clients):
            drawn = ints[at.DRAWN] % len(state.pool_prompts)
            ints[at.DRAWN] += 1
            place = ints[at.TAIL] & mask
            self.state.queue_at[place] = now + self.request_seconds
            self.state.queue_sent[place] = now
            self.state.queue_prompt[place] = state.pool_prompts[drawn]
            self.state.queue_output[place] = state.pool_outputs[drawn]
            self.state.queue_closed[place] = 1
            ints[at.TAIL] += 1

    def advance(self, until: float) -> None:
        """Lets it work until then; the step under way is finished."""
        every = self.state.floats[at.SAMPLE_EVERY]
        wide = at.GAUGES + len(at.COUNTED) + len(self.state.histograms)
        due = 0
        if every < NEVER:
            due = max(0, int((until - self.state.floats[at.NEXT_SAMPLE]) / every) + 2)
        if len(self.state.samples) < due * wide:
            self.state = self.state._replace(samples=floats([0.0] * (due * wide)))
        self._room(self.count(at.TAIL) - self.count(at.HEAD))
        self.state.ints[at.SAMPLES] = 0
        advance(self.state, self._table, until)
        for number in range(self.count(at.SAMPLES)):
            self.rows.append(list(self.state.samples[number * wide : (number + 1) * wide]))

    def counted(self) -> list[float]:
        """A sample of when the last step ended, without waiting for one that is due."""
        state, ints = self.state, self.state.ints
        waiting = ints[at.SEEN] - ints[at.HEAD] + ints[at.PREEMPTED]
        usage = 1.0 - ints[at.FREE] / state.limits[at.BLOCKS]
        gauges = [self.now, float(self.running), float(waiting), float(usage)]
        return [*gauges, *(float(ints[one]) for one in at.COUNTED), *map(float, state.histograms)]

    def taken(self) -> list[Any]:
        """The samples since the last time."""
        rows, self.rows = self.rows, []
        return rows

    def late(self, now: float) -> tuple[int, int]:
        """Requests that have no first token yet: all, and those that wait longer than it should.

        Those that are not to arrive before ``now`` are not counted.
        """
        state, mask = self.state, len(self.state.queue_at) - 1
        ints = state.ints
        sent = [
            state.queue_sent[place & mask]
            for place in range(ints[at.HEAD], ints[at.TAIL])
            if state.queue_sent[place & mask] < now
        ]
        fresh = [state.preempted[number] for number in range(ints[at.PREEMPTED])]
        if ints[at.PARTIAL] >= 0:
            fresh.append(ints[at.PARTIAL])
        sent += [state.sent[slot] for slot in fresh if state.generated[slot] == 0]
        objective = state.floats[at.FIRST_OBJECTIVE]
        return len(sent), int(sum(now - one > objective for one in sent))

    def _room(self, more: int) -> None:
        """Room in the queue for so many more, and for the next of each client."""
        held = self.count(at.TAIL) - self.count(at.HEAD) + self.running + self.count(at.PREEMPTED)
        self._ring(held + more)

    def _ring(self, wanted: int) -> None:
        state = self.state
        size = len(state.queue_at)
        if wanted < size:
            return
        larger = size
        while larger <= 2 * wanted:
            larger *= 2
        places = [(place & (size - 1), place & (larger - 1)) for place in self._queued()]
        made = {}
        for name in ("queue_at", "queue_sent", "queue_prompt", "queue_output", "queue_closed"):
            old = getattr(state, name)
            new: Any = [0.0 if name in ("queue_at", "queue_sent") else 0] * larger
            for before, after in places:
                new[after] = old[before]
            made[name] = floats(new) if name in ("queue_at", "queue_sent") else integers(new)
        self.state = state._replace(**made)

    def _queued(self) -> range:
        return range(self.count(at.HEAD), self.count(at.TAIL))
