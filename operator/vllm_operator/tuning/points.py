"""What a mean step carries, and how long it takes. Times are in seconds, lengths in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from vllm_operator.sizing.performance.server import Server
from vllm_operator.sizing.performance.step import Times

from .distributions import gamma
from .graphs import both, captured
from .intervals import Interval

PROMPT_VARIATION: Final = 1.0
"""Of prompts' lengths, where nothing tells: that of an exponential distribution."""
UNSEEN_PIECES: Final = 0.15
"""Of the time of a step with a piece of a prompt, what may be for having one."""
LITTLE: Final = 0.05
"""Of a step's prompt tokens, below which their spread changes no time."""
LONGEST: Final = 16384.0
"""Prompt tokens up to which a step is looked for that takes no longer without a CUDA graph."""
HALVINGS: Final = 10
"""Of the way there."""
EVENS: Final = 8.0
"""Batches in a factor of e for which it is found."""
SELDOM: Final = 1e-6
"""Share of steps that is none."""


class Lengths(NamedTuple):
    """Tokens of a mean request."""

    computed: float
    """Of its prompt, those not found in the prefix cache."""
    cached: float
    """Of its prompt, those found there."""
    generated: float
    """Before a token that is generated at a random time: more than half of the mean output where
    lengths differ, as long ones are met more often."""

    variation: float
    """Variance of prompts' lengths over the square of their mean."""

    @property
    def context(self) -> float:
        """Tokens that a generated one attends to."""
        return self.computed + self.cached + self.generated


def lengths(intervals: Iterable[Interval]) -> Lengths:
    """Mean lengths over a window; the output's from requests that finished in it, E[o^2] / 2 E[o].

    0 where none started or finished.
    """
    ones = list(intervals)
    started = max(1.0, sum(one.first_tokens for one in ones))
    outputs = sum(one.finished_output_tokens for one in ones)
    squares = sum(one.finished_output_squares for one in ones)
    return Lengths(
        computed=sum(one.prompt_tokens for one in ones) / started,
        cached=sum(one.cached_tokens for one in ones) / started,
        generated=squares / (2 * outputs) if outputs else 0.0,
        variation=prompt_variation(ones),
    )


def prompt_variation(intervals: Sequence[Interval]) -> float:
    """Variance of prompts' lengths over the square of their mean: of whole prompts, and taken for
    that of what is computed of them."""
    squares = [one.finished_prompt_squares for one in intervals]
    known = sum(square for square in squares if square is not None)
    finished = sum(one.finished for one in intervals)
    mean = sum(one.finished_prompt_tokens for one in intervals) / max(1.0, finished)
    if None in squares or not finished or not mean:
        return PROMPT_VARIATION
    return max(0.0, known / finished / (mean * mean) - 1.0)


class Point(NamedTuple):
    """What a mean step of one engine carries."""

    batch: float
    """Generated tokens, as a request that generates meets them."""
    prompt: float
    """Prompt tokens that are computed."""
    starts: float
    """Requests that start."""
    context: float
    """Tokens that each generated one attends to."""
    prompt_context: float
    """Tokens that each of a prompt attends to."""
    variation: float = 0.0
    """Variance of prompts' lengths over the square of their mean."""


def point(interval: Interval, mean: Lengths, cap: float) -> Point:
    """What a mean step of ``interval`` carried; ``cap`` requests run at most.

    The mean of the time between tokens counts each step as often as it has requests. Where they
    arrive independently that is the time at one request more than the mean; where the batch is
    full all steps are alike. A prompt is computed again after each preemption, and no counter of
    tokens tells; what was generated before is left out, as those that came last have hardly begun.
    """
    batch, again = interval.batch, interval.preemptions / interval.steps
    return Point(
        batch=batch if interval.preemptions else batch + max(0.0, 1.0 - batch / cap),
        prompt=interval.prompt + again * (mean.computed + mean.cached),
        starts=interval.starts + again,
        context=mean.context,
        prompt_context=mean.cached + mean.computed / 2,
        variation=mean.variation,
    )


def seconds(server: Server, at: Point) -> float:
    """As ``Clock.seconds``, of one point."""
    return Clock(server).seconds(at)


class Clock:
    """Times between two tokens of a server, for one point after another."""

    def __init__(self, server: Server) -> None:
        self.server, self.times = server, server.times
        self.captured = captured(server)
        self.graphed, self.eager = both(server.times)
        self.in_flight = float(server.work.split.pipeline)
        self._even: dict[tuple[int, float, float], float] = {}

    def seconds(self, at: Point) -> float:
        """Mean seconds between two tokens of a request: of steps with pieces of prompts and
        without.

        Requests that start come independently, x in a step, and each stays for the pieces that its
        prompt is cut into, so 1 - exp(-x pieces) of the steps carry one. The mean of both kinds of
        steps is not a step with the mean prompt, as the roofline bends between them; nor is that of
        steps with more and with less of prompts, which two of them stand for. Those that have more
        tokens than a CUDA graph holds take longer by what launching their kernels does.
        """
        alone = self.times.step(at.batch, at.context, 0.0, 0.0, in_flight=self.in_flight)
        if at.prompt <= 0.0 or at.starts <= 0.0:
            return alone
        room = max(1.0, self.server.limits.tokens - at.batch)
        prompt = at.prompt / at.starts
        share = -math.expm1(-at.starts * max(1.0, prompt / room))
        # No step holds more than there is room for: where prompts queue, nearly all have a piece.
        share = max(share, min(1.0, at.prompt / room))
        anywhere = 1.0 - (1.0 - share) ** self.times.ranks
        prompting = self.times.ranks * share / anywhere
        held = self.captured - at.batch
        prompts = spread(at.prompt / share, at.starts, prompt, at.variation, room)
        times = self.times if held <= 0.0 else self.graphed
        mixed = sum(self._step(times, at, one, prompting) for one in prompts) / len(prompts)
        if 0.0 < held < room:
            pieces = prompt / piece(prompt, room)
            even = self._evens(at)
            part, tokens = beyond(held, even, room, at.starts, prompt, at.variation, pieces)
            if part > 0.0:
                more = self._step(self.eager, at, tokens, prompting)
                mixed += part * (more - self._step(self.graphed, at, tokens, prompting))
        return (1.0 - anywhere) * alone + anywhere * mixed

    def _step(self, times: Times, at: Point, prompt: float, prompting: float) -> float:
        return times.step(
            at.batch,
            at.context,
            prompt,
            at.prompt_context,
            in_flight=self.in_flight,
            prompting=prompting,
        )

    def _evens(self, at: Point) -> float:
        """Prompt tokens from which on a step takes no longer without a CUDA graph."""
        near = int(math.log(max(1.0, at.batch)) * EVENS)
        key = near, at.context, at.prompt_context
        found = self._even.get(key)
        if found is None:
            here = at._replace(batch=math.exp(near / EVENS))
            floor = self._step(self.eager, here, 1.0, 1.0)
            low, high = 1.0, LONGEST
            for _ in range(HALVINGS):
                middle = math.sqrt(low * high)
                if self._step(self.graphed, here, middle, 1.0) < floor:
                    low = middle
                else:
                    high = middle
            found = self._even[key] = high
        return found


def beyond(
    held: float,
    even: float,
    room: float,
    starts: float,
    prompt: float,
    variation: float,
    pieces: float,
) -> tuple[float, float]:
    """Of the steps with a piece of a prompt the share that has between ``held`` and ``even`` tokens
    of them, and how many those have in the mean.

    ``starts`` requests start in a step, their prompts of ``prompt`` tokens in ``pieces`` pieces, of
    which all but the last fill the ``room`` of a step. The last pieces of a step are a compound
    Poisson number of tokens, some at least, taken for gamma distributed.
    """
    some = -math.expm1(-starts)
    last = max(1.0, prompt - (pieces - 1.0) * room)
    mean = starts * last / some
    variance = max(0.0, starts * last * last * (1.0 + variation + starts) / some - mean * mean)
    scale = variance / mean
    top = min(even, room)
    if held >= top:
        return 0.0, 0.0
    share = gamma(top, mean, variance) - gamma(held, mean, variance)
    # What a gamma distribution has below x of its mean is one of a shape that is larger by 1.
    longer, wider = mean + scale, variance + scale * scale
    tokens = mean * (gamma(top, longer, wider) - gamma(held, longer, wider))
    if room < even:
        cut = 1.0 - gamma(room, mean, variance) + pieces - 1.0
        share, tokens = share + cut, tokens + cut * room
    if share <= SELDOM:
        return 0.0, 0.0
    return share / pieces, tokens / share


def piece(prompt: float, room: float) -> float:
    """Mean tokens of the pieces that prompts of ``prompt`` tokens in the mean are cut into, where a
    step has room for ``room``: of lengths that are exponentially distributed."""
    return -prompt * math.expm1(-room / prompt)


def unseen_pieces(then: float, seen: float) -> float:
    """Standard deviation of ln of the time of a step with a piece of a prompt of ``then`` tokens,
    beside what the multipliers leave open, where pieces of ``seen`` were seen.

    Pieces of one size do not tell what a step costs for having one (it may run without a CUDA
    graph, and with other kernels) from what its tokens cost.
    """
    return UNSEEN_PIECES * max(0.0, 1.0 - then / seen)


def spread(
    mean: float, starts: float, prompt: float, variation: float, room: float
) -> tuple[float, ...]:
    """Prompt tokens of steps that have any: two values with their mean and deviation, or the mean.

    Of ``starts`` independent prompts in a step with ``prompt`` tokens each, at least one: E[x^2] =
    starts prompt^2 (1 + variation + starts) / P(any). None is below 0 or above ``room``.
    """
    square = starts * prompt * prompt * (1.0 + variation + starts) / -math.expm1(-starts)
    deviation = math.sqrt(max(0.0, square - mean * mean))
    away = max(0.0, min(deviation, mean, room - mean))
    return (mean,) if away <= LITTLE * mean else (mean - away, mean + away)
