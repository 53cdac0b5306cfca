"""Pods that step, for tests and benchmarks of tuning: engines that no formula of it describes.

A step is padded to a captured graph, takes longer by a lognormal jitter, and by what disturbs the
machine. Requests arrive independently, with lengths that vary, and stay until their last token.
The numbers are an imaginary GPU's. Time goes in ticks, many steps long, in which the batch is the
same; counts of an interval are what an engine's counters would differ by.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from vllm_operator.tuning.intervals import Between, Interval

GRAPHS = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))
TICKS = 6
"""In an interval."""
OWN_STAYS = 0.7
"""Correlation of what a pod's machine does in one interval and in the next."""


@dataclass(frozen=True)
class Engine:
    """Seconds of the parts of a step."""

    fixed: float = 0.0075
    sequence: float = 80e-6
    context: float = 9e-8
    prompt: float = 3.5e-5
    jitter: float = 0.03
    own: float = 0.01
    """Standard deviation of what only this pod's machine does, minutes long."""
    unit: float = 1.0
    """Seconds of a second: all times are as much longer."""

    def step(self, batch: int, context: float, prompt: float) -> float:
        place = bisect.bisect_left(GRAPHS, batch)
        padded = GRAPHS[place] if place < len(GRAPHS) else batch
        # Up to 250 tokens reading weights takes longer than multiplying them.
        arithmetic = self.prompt * max(0.0, padded + prompt - 250)
        seconds = self.fixed + self.sequence * padded + self.context * batch * context
        return self.unit * (seconds + arithmetic)


STEEP = Engine(fixed=0.003, sequence=4e-4, context=2e-7, prompt=5e-5)
"""Time nearly in proportion to the batch, as on a CPU."""


@dataclass(frozen=True)
class Traffic:
    """What one pod is sent. Tokens are means; outputs are exponentially distributed."""

    rate: float | None
    """Requests a second; None where ``cap`` requests always run and others wait."""
    prompt: float = 800.0
    output: float = 250.0
    objective: float = 0.020
    """Seconds between tokens, of which the slow ones are counted."""


class Pod:
    """One engine under its traffic, an interval at a time."""

    def __init__(
        self,
        name: str,
        generator: random.Random,
        traffic: Traffic,
        engine: Engine = Engine(),
        *,
        cap: int = 256,
        slower: float = 1.0,
    ) -> None:
        self.name, self.traffic, self.engine, self.cap = name, traffic, engine, cap
        self.generator, self.slower = generator, slower
        self.waiting = 0
        self.own = generator.gauss(0.0, engine.own)
        rate = traffic.rate
        self.running = cap if rate is None else self._balanced(rate / engine.unit)

    def _balanced(self, rate: float) -> int:
        """Where as many leave as come."""
        for batch in range(1, self.cap):
            if batch / (self.traffic.output * self._mean(batch, rate)) >= rate:
                return batch
        return self.cap

    def _mean(self, batch: int, rate: float) -> float:
        context = self.traffic.prompt + self.traffic.output
        alone = self.slower * self.engine.step(batch, context, 0.0)
        share = 1.0 - math.exp(-rate * alone)
        mixed = self.slower * self.engine.step(batch, context, self.traffic.prompt)
        return alone + share * (mixed - alone)

    def interval(
        self, end: float, seconds: float, disturbance: Callable[[float], float]
    ) -> Interval:
        """What it does in the ``seconds`` before ``end``; ``disturbance`` is a factor on steps."""
        draw, traffic, engine = self.generator, self.traffic, self.engine
        tick = seconds / TICKS
        self.own = OWN_STAYS * self.own + draw.gauss(0.0, engine.own) * math.sqrt(1 - OWN_STAYS**2)
        context = traffic.prompt + traffic.output
        steps = gaps = gap_seconds = slow = starts = finished = output = 0.0
        queue = 0.0
        for number in range(TICKS):
            now = end - seconds + number * tick
            if traffic.rate is None:
                self.waiting += max(0, self.cap + 8 - self.running - self.waiting)
            else:
                self.waiting += _poisson(draw, traffic.rate / engine.unit * tick)
            joining = min(self.waiting, self.cap - self.running)
            self.waiting -= joining
            queue += self.waiting * tick
            self.running += joining
            if not self.running:
                continue
            factor = self.slower * disturbance(now) * math.exp(self.own)
            alone = factor * engine.step(self.running, context, 0.0)
            mixed = factor * engine.step(self.running, context, traffic.prompt)
            # As many steps as fit, of which one for each request that joined has its prompt.
            plain = max(0.0, tick - joining * mixed) / alone
            joining_steps = min(float(joining), tick / mixed)
            count = plain + joining_steps
            noise = math.exp(draw.gauss(0.0, engine.jitter / math.sqrt(max(1.0, count))))
            count /= noise
            steps += count
            gaps += count * self.running
            gap_seconds += tick * self.running
            late = traffic.objective * engine.unit
            slow += self.running * (
                plain * _beyond(late / alone, engine.jitter)
                + joining_steps * _beyond(late / mixed, engine.jitter)
            )
            starts += joining
            done = min(self.running, _poisson(draw, self.running * count / traffic.output))
            if traffic.rate is None:
                done = min(done, self.running - 1)
            finished += done
            output += done * traffic.output
            self.running -= done
        return Interval(
            pod=self.name,
            end=end,
            seconds=seconds,
            steps=steps,
            gaps=gaps,
            gap_seconds=gap_seconds,
            slow_gaps=Between(slow, slow),
            first_tokens=starts,
            first_token_seconds=starts * 0.1 * engine.unit,
            slow_first_tokens=Between(0.0, 0.0),
            prompt_tokens=starts * traffic.prompt,
            cached_tokens=0.0,
            generated_tokens=gaps + starts,
            running=float(self.running),
            waiting=float(self.waiting),
            cache_usage=0.3,
            preemptions=0.0,
            finished=finished,
            failed=0.0,
            rejected=0.0,
            finished_prompt_tokens=finished * traffic.prompt,
            finished_output_tokens=output,
            finished_output_squares=2.0 * output * traffic.output,
            queue_seconds=queue,
            request_seconds=finished * traffic.output * gap_seconds / max(1.0, gaps),
        )


class Disturbances:
    """What slows all pods of a machine room: spells with a factor, and a slow wave."""

    def __init__(self, generator: random.Random, unit: float = 1.0) -> None:
        self.unit = unit
        self.spells = []
        at = generator.expovariate(1 / 3600)
        while at < 6 * 3600:
            lasts = generator.uniform(60, 1500)
            self.spells.append((at, at + lasts, generator.uniform(1.05, 1.35)))
            at += lasts + generator.expovariate(1 / 3600)
        self.phase = generator.uniform(0, 2 * math.pi)

    def __call__(self, now: float) -> float:
        now /= self.unit
        factor = 1.0 + 0.02 * math.sin(self.phase + now / 900)
        for start, end, more in self.spells:
            if start <= now < end:
                factor *= more
        return factor


def quiet(_: float) -> float:
    """Nothing disturbs."""
    return 1.0


def _poisson(generator: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(generator.gauss(mean, math.sqrt(mean))))
    limit, number, product = math.exp(-mean), 0, generator.random()
    while product > limit:
        number += 1
        product *= generator.random()
    return number


def _beyond(ratio: float, sigma: float) -> float:
    """Share of lognormal factors above ``ratio``."""
    return 0.5 * math.erfc(math.log(ratio) / (sigma * math.sqrt(2)))
