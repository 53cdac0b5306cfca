"""What bounds a server, as a person would look for it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vllm_operator.api.counting import counted

from .curve import quantile
from .intervals import Interval
from .knobs import Knobs, Objective

RARELY: Final = 0.01
OFTEN: Final = 0.1
MOSTLY: Final = 0.5
"""Shares of intervals."""
BELOW_CAP: Final = 0.8
"""Share of the places that must never be needed for the cap not to matter."""
AT_CAP: Final = 0.95
FULL_CACHE: Final = 0.95
ROOMY_CACHE: Final = 0.9
PREEMPTED: Final = 0.1
"""Preemptions of a request that are too many."""
FULL_STEP: Final = 0.9
UNEVEN: Final = 3.0
FAILED: Final = 0.01
"""Share of finished requests with an error that is too much."""


class Bound(StrEnum):
    """What bounds a server, in the order in which they are looked at."""

    BROKEN = "Broken"
    LOAD = "Load"
    KV_CACHE = "KVCache"
    DECODE_LATENCY = "DecodeLatency"
    PREFILL_INTERFERENCE = "PrefillInterference"
    PREFILL_RATE = "PrefillRate"
    SEQUENCES = "Sequences"
    SATURATED = "Saturated"
    UNEVEN = "Uneven"
    NOTHING = "Nothing"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    bound: Bound
    holds: bool
    pod: str
    """The worst by this test."""
    message: str
    """What was seen, with its numbers."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole table; the first row that holds is the diagnosis."""

    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        """The last row always holds."""
        return next(row for row in self.rows if row.holds)

    @property
    def bound(self) -> Bound:
        """What bounds the server."""
        return self.first.bound

    def holds(self, bound: Bound) -> bool:
        """Whether a row holds, first or not."""
        return any(row.holds for row in self.rows if row.bound is bound)


class _Pod:
    """What one pod showed in the window."""

    def __init__(self, name: str, ones: Sequence[Interval], knobs: Knobs, trouble: str) -> None:
        self.name, self.trouble = name, trouble
        self.cap = knobs.cap
        count = len(ones)
        self.waiting = sum(one.waiting > 0 for one in ones) / count
        self.in_flight = sum(one.running + one.waiting for one in ones) / count
        self.most = quantile([one.running + one.waiting for one in ones], 0.99)
        self.at_cap = sum(one.running >= AT_CAP * self.cap for one in ones) / count
        self.usage = sum(one.cache_usage for one in ones) / count
        self.cache_waits = (
            sum(_is_full(one) and one.waiting > 0 and one.running < self.cap for one in ones)
            / count
        )
        finished = sum(one.finished for one in ones)
        self.preempted = sum(one.preemptions for one in ones) / max(1.0, finished)
        self.failed = sum(one.failed for one in ones) / max(1.0, finished)
        steps = max(1.0, sum(one.steps for one in ones))
        tokens = sum(one.gaps + one.prompt_tokens for one in ones) / steps
        self.full = tokens / knobs.max_num_batched_tokens
        self.batch = sum(one.gaps for one in ones) / steps
        started = sum(one.first_tokens for one in ones)
        prompt = sum(one.prompt_tokens for one in ones) / max(1.0, started)
        room = max(1.0, knobs.max_num_batched_tokens - self.batch)
        self.mixed = -math.expm1(-started / steps * max(1.0, prompt / room))
        gaps = max(1.0, sum(one.gaps for one in ones))
        self.late_gaps = sum(one.slow_gaps.low for one in ones if one.slow_gaps) / gaps
        self.late_first = sum(
            one.slow_first_tokens.low for one in ones if one.slow_first_tokens
        ) / max(1.0, started)
        seconds = sum(one.seconds for one in ones)
        self.growth = (ones[-1].waiting - ones[0].waiting + sum(o.rejected for o in ones)) / seconds
        self.started = started / seconds


def _is_full(one: Interval) -> bool:
    """Whether the KV cache has no room for another request like those that run: of long prompts
    few fill it, and the room that is left fits none."""
    another = one.cache_usage / one.running if one.running > 0 else 0.0
    return one.cache_usage > FULL_CACHE or one.cache_usage + another > 1.0


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


class _Table:
    """The tests, each on the pod that is worst by it."""

    def __init__(self, pods: Sequence[_Pod], objective: Objective, replicas: int | None) -> None:
        self.pods, self.replicas = pods, replicas
        self.allowed = 1.0 - objective.share
        self.gap = objective.inter_token_latency
        self.first = objective.time_to_first_token

    def _worst(self, of: Callable[[_Pod], float]) -> _Pod:
        return max(self.pods, key=lambda pod: (of(pod), pod.name))

    def _late_gaps(self, pod: _Pod) -> bool:
        return self.gap is not None and pod.late_gaps > self.allowed

    def _late_first(self, pod: _Pod) -> bool:
        return self.first is not None and pod.late_first > self.allowed

    def _row(self, bound: Bound, pod: _Pod, holds: bool, message: str) -> Row:
        return Row(bound, holds, pod.name, f"{pod.name}: {message}")

    def _gaps(self, pod: _Pod) -> str:
        if self.gap is None:
            return "no inter-token latency is asked for"
        return (
            f"{_percent(pod.late_gaps)} of gaps between tokens are longer than "
            f"{1000 * self.gap:.0f} ms, and {_percent(self.allowed)} may be"
        )

    def _firsts(self, pod: _Pod) -> str:
        if self.first is None:
            return "no time to first token is asked for"
        return (
            f"{_percent(pod.late_first)} of first tokens take longer than "
            f"{1000 * self.first:.0f} ms, and {_percent(self.allowed)} may"
        )

    def broken(self) -> Row:
        pod = self._worst(lambda one: bool(one.trouble) + one.failed)
        said = pod.trouble or f"{_percent(pod.failed)} of requests ended with an error"
        return self._row(Bound.BROKEN, pod, bool(pod.trouble) or pod.failed > FAILED, said)

    def load(self) -> Row:
        pod = self._worst(lambda one: one.most / one.cap + one.waiting)
        late = any(self._late_gaps(one) or self._late_first(one) for one in self.pods)
        holds = not late and all(
            one.waiting < RARELY and one.most < BELOW_CAP * one.cap for one in self.pods
        )
        said = (
            f"requests wait in {_percent(pod.waiting)} of intervals, and at most "
            f"{pod.most:.0f} of {pod.cap} places are asked for"
        )
        said += "; an objective is broken" if late else ""
        return self._row(Bound.LOAD, pod, holds, said)

    def cache(self) -> Row:
        pod = self._worst(lambda one: one.cache_waits + one.preempted)
        # More first tokens are late than may be where as many requests wait.
        often = min(OFTEN, self.allowed) if self._late_first(pod) else OFTEN
        holds = pod.cache_waits > often or pod.preempted > PREEMPTED
        said = (
            f"{_percent(pod.usage)} of the KV cache is in use, requests wait for it in "
            f"{_percent(pod.cache_waits)} of intervals, and {pod.preempted:.2f} preemptions come "
            "on a request"
        )
        return self._row(Bound.KV_CACHE, pod, holds, said)

    def _latency(self, bound: Bound, interferes: bool, what: str) -> Row:
        pod = self._worst(lambda one: one.late_gaps)
        holds = self._late_gaps(pod) and (pod.mixed >= self.allowed) is interferes
        said = (
            f"{self._gaps(pod)}; {_percent(pod.mixed)} of steps carry a piece of a prompt, {what}"
        )
        return self._row(bound, pod, holds, said)

    def decode(self) -> Row:
        pod = self._worst(lambda one: one.late_gaps)
        what = f"with {counted(f'{pod.batch:.0f}', 'request')} generating in a step"
        return self._latency(Bound.DECODE_LATENCY, False, what)

    def interference(self) -> Row:
        return self._latency(Bound.PREFILL_INTERFERENCE, True, "for which others wait")

    def prefill(self) -> Row:
        pod = self._worst(lambda one: one.late_first + one.full)
        holds = self._late_first(pod) and pod.at_cap < MOSTLY and pod.full > FULL_STEP
        said = f"{self._firsts(pod)}; {_percent(pod.full)} of the tokens of a step are used"
        return self._row(Bound.PREFILL_RATE, pod, holds, said)

    def sequences(self) -> Row:
        pod = self._worst(lambda one: one.at_cap + one.waiting)
        queue = self._late_first(pod) or pod.waiting > MOSTLY
        slack = pod.usage < ROOMY_CACHE and not self._late_gaps(pod)
        holds = queue and pod.at_cap > MOSTLY and slack
        taken = "the one place is" if pod.cap == 1 else f"all {pod.cap} places are"
        said = (
            f"{taken} taken in {_percent(pod.at_cap)} of intervals and requests "
            f"wait in {_percent(pod.waiting)}, with {_percent(pod.usage)} of the KV cache in use"
        )
        return self._row(Bound.SEQUENCES, pod, holds, said)

    def saturated(self, bound_otherwise: bool) -> Row:
        pod = self._worst(lambda one: one.growth)
        grows = pod.waiting > MOSTLY and pod.growth > 0.02 * pod.started
        late = any(self._late_first(one) for one in self.pods)
        said = (
            f"{pod.growth:.2f} requests a second more than the {pod.started:.2f} that are answered"
        )
        if self.replicas is not None:
            said += f"; {counted(self.replicas, 'replica')} would keep up"
        return self._row(Bound.SATURATED, pod, (grows or late) and not bound_otherwise, said)

    def uneven(self) -> Row:
        pod = self._worst(lambda one: one.in_flight)
        least = min(self.pods, key=lambda one: (one.in_flight, one.name))
        # A handful of requests is uneven by chance.
        holds = pod.in_flight > UNEVEN * max(least.in_flight, 1.0)
        said = f"{pod.in_flight:.1f} requests in flight, and {least.in_flight:.1f} in {least.name}"
        return self._row(Bound.UNEVEN, pod, holds, said)

    def rows(self) -> Iterable[Row]:
        found = [
            self.broken(),
            self.load(),
            self.cache(),
            self.decode(),
            self.interference(),
            self.prefill(),
            self.sequences(),
        ]
        found.append(self.saturated(any(row.holds for row in found)))
        found.append(self.uneven())
        pod = self._worst(lambda one: one.most / one.cap)
        said = (
            f"at most {pod.most:.0f} of {pod.cap} places are asked for, and nothing is at a limit"
        )
        return [*found, self._row(Bound.NOTHING, pod, True, said)]


def diagnose(
    intervals: Iterable[Interval],
    knobs: Knobs,
    objective: Objective | None = None,
    *,
    troubles: Mapping[str, str] | None = None,
    replicas: int | None = None,
) -> Diagnosis | None:
    """The table for the pods of a window, which all run with ``knobs``; None without intervals.

    ``troubles``: by pod, what is known from elsewhere to be broken: a restart, memory that ran out.
    ``replicas``: how many would keep up, where somebody has computed it.
    """
    pods: dict[str, list[Interval]] = defaultdict(list)
    for interval in sorted(intervals, key=lambda one: (one.pod, one.end)):
        pods[interval.pod].append(interval)
    if not pods:
        return None
    known = troubles or {}
    seen = [_Pod(name, ones, knobs, known.get(name, "")) for name, ones in pods.items()]
    return Diagnosis(tuple(_Table(seen, objective or Objective(), replicas).rows()))
