"""What an engine does while n requests are in it: how fast they end, and how late tokens are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from vllm_operator.sizing.performance.server import Server
from vllm_operator.sizing.performance.step import Times

from .curve import Posterior
from .distributions import gamma, normal
from .graphs import both, captured, with_graphs
from .load import Load
from .points import Point, beyond, piece, spread, unseen_pieces

JITTER: Final = 0.03
"""Relative standard deviation of equal steps, and of the contexts in them."""
GROWTH: Final = 1.25
"""Between two batches for which times are computed; between them they are interpolated."""
PROMPTS: Final = (0, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Prompt tokens of a step for which times are computed."""
ROUNDS: Final = 16


def ladder(most: int) -> tuple[int, ...]:
    """Whole numbers from 1 to ``most``, each a quarter more than the one before at most, or 1."""
    steps = [1]
    while steps[-1] < most:
        steps.append(min(most, max(steps[-1] + 1, int(steps[-1] * GROWTH))))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of a step of one batch, by the tokens of prompts in it."""

    graphed: Sequence[float]
    """For each of ``PROMPTS``, were there a CUDA graph for it."""
    floor: float
    """What a step without a graph takes at least."""
    held: float
    """Tokens of prompts up to which there is a graph."""

    def seconds(self, prompt: float) -> float:
        """Seconds with ``prompt`` tokens of prompts."""
        graphed = seconds_of(self.graphed, prompt)
        return graphed if prompt <= self.held else max(graphed, self.floor)

    def prompt(self, seconds: float) -> float:
        """The most prompt tokens of a step that is done in ``seconds``; negative where none is."""
        most = prompt_of(self.graphed, seconds)
        return most if seconds >= self.floor else min(most, self.held)

    @property
    def even(self) -> float:
        """Prompt tokens from which on a graph would save nothing."""
        return prompt_of(self.graphed, self.floor)


class Steps:
    """Times of steps under a load, each computed once: tens of microseconds otherwise."""

    def __init__(self, server: Server, posterior: Posterior, load: Load) -> None:
        """``server`` as planned: what was learned of it is applied here."""
        self.server = server
        self.posterior = posterior
        self.load = load
        self.captured = captured(server)
        self.times = server.scaled(posterior.today).times
        self.graphed, self.eager = both(self.times)
        self.ranks = server.work.split.data
        self.stages = server.work.split.pipeline
        self.request_seconds = server.found.request_seconds
        self.later = max(0.0, load.output - 1.0)
        self.context = load.full_prompt + load.output_square / (2.0 * load.output)
        self._batches = ladder(4096)
        self._rows: dict[int, tuple[tuple[float, ...], float]] = {}
        self._deviations: dict[tuple[int, int], tuple[float, float]] = {}

    def _row(self, batch: int) -> tuple[tuple[float, ...], float]:
        row = self._rows.get(batch)
        if row is None:
            seen = self.load.cached + self.load.prompt / 2

            def step(times: Times, prompt: float) -> float:
                return times.step(batch, self.context, prompt, seen, in_flight=float(self.stages))

            graphed = tuple(step(self.graphed, prompt) for prompt in PROMPTS)
            row = self._rows[batch] = graphed, step(self.eager, 0.0)
        return row

    def of(self, batch: float, captured: int) -> Row:
        """Seconds of a step of ``batch`` generated tokens, with CUDA graphs for steps of up to
        ``captured`` tokens."""
        held = captured - batch
        batch = min(max(batch, 1.0), float(self._batches[-1]))
        above = bisect_right(self._batches, batch)
        low = self._batches[above - 1]
        near, floor = self._row(low)
        if above == len(self._batches) or low == batch:
            return Row(near, floor, held)
        high = self._batches[above]
        part = (batch - low) / (high - low)
        far, other_floor = self._row(high)
        between = [one + part * (other - one) for one, other in zip(near, far, strict=True)]
        return Row(between, floor + part * (other_floor - floor), held)

    def deviations(self, batch: float, captured: int) -> tuple[float, float]:
        """Standard deviations of the logarithm of the time of a mean step, and of one with a whole
        prompt; between powers of four in proportion to ln batch."""
        power = math.log(max(1.0, batch), 4)
        low = int(power)
        ends = (self._deviations_at(one, captured) for one in (low, low + 1))
        mean, mixed = (near + (power - low) * (far - near) for near, far in zip(*ends, strict=True))
        return mean, mixed

    def _deviations_at(self, power: int, captured: int) -> tuple[float, float]:
        found = self._deviations.get((power, captured))
        if found is None:
            batch, prompt = 4.0**power, self.load.prompt
            started = batch / max(1.0, self.later)
            seen = self.load.cached + prompt / 2
            varies = self.load.prompt_variation
            mean = Point(batch, started * prompt, started, self.context, seen, varies)
            # So many starts that every step has a piece of a prompt, and no more tokens than one.
            mixed = Point(batch, prompt, 50.0, self.context, seen)
            of, server = self.posterior.deviation, with_graphs(self.server, captured)
            found = self._deviations[power, captured] = of(server, mean), of(server, mixed)
        return found


def seconds_of(row: Sequence[float], prompt: float) -> float:
    """Seconds of a step with ``prompt`` tokens of prompts; beyond the last, as its last piece."""
    at = min(max(1, bisect_right(PROMPTS, prompt)), len(PROMPTS) - 1)
    low, high = PROMPTS[at - 1], PROMPTS[at]
    return row[at - 1] + (prompt - low) / (high - low) * (row[at] - row[at - 1])


def prompt_of(row: Sequence[float], seconds: float) -> float:
    """The most prompt tokens of a step that is done in ``seconds``; negative where none is."""
    at = min(max(1, bisect_right(row, seconds)), len(PROMPTS) - 1)
    low, high = PROMPTS[at - 1], PROMPTS[at]
    slope = (row[at] - row[at - 1]) / (high - low)
    return low + (seconds - row[at - 1]) / slope if slope > 0 else math.inf


@dataclass(frozen=True, slots=True)
class State:
    """One rank with n requests in it that all have a place."""

    requests: int
    started: float
    """Requests that start, and end, in a step."""
    decodes: float
    """Generated tokens of a step."""
    preparing: float
    """Requests whose prompt is computed or next in line."""
    busy: float
    """Share of the tokens of a step that prompts may have which they have."""
    room: float
    """Tokens of a step that are left for prompts."""
    prompt: float
    """Prompt tokens that are computed for a request."""
    variation: float
    """Variance of its length over the mean's square."""
    pieces: float
    """Steps that a prompt takes, in the mean."""
    mixed: float
    """Share of steps with a piece of a prompt on any rank that this one waits for."""
    alone_seconds: float
    mixed_seconds: float
    row: Row
    rate: float
    """Requests that end in a second."""
    deviation: float
    """Standard deviation of the logarithm of a mean step's time, as far as the fit knows."""
    mixed_deviation: float
    """The same of a step with a prompt."""
    request_seconds: float

    @property
    def step(self) -> float:
        """Mean seconds of a step."""
        return self.mixed * self.mixed_seconds + (1.0 - self.mixed) * self.alone_seconds

    @property
    def latency(self) -> float:
        """Mean seconds between two tokens; a request does not wait for its own prompt then."""
        mixed = self.mixed * (1.0 - 1.0 / self.requests)
        return mixed * self.mixed_seconds + (1.0 - mixed) * self.alone_seconds

    def gaps_within(self, seconds: float, z: float = 0.0) -> float:
        """Share of gaps between tokens that are at most so long, at ``z`` deviations above.

        Of a prompt that is longer than a step has room for, all pieces but the last fill the step.
        The last pieces of a step are a compound Poisson number of tokens, none with a probability
        of its own, else taken for gamma distributed with the mean and variance of the sum.
        """
        slower = math.exp(z * self.deviation)
        alone = normal(math.log(seconds / (slower * self.alone_seconds)) / JITTER)
        mixed = self.mixed * (1.0 - 1.0 / self.requests)
        if mixed <= 0.0:
            return alone
        seconds /= math.exp(z * self.mixed_deviation)
        filled = normal(math.log(seconds / self.row.seconds(self.room)) / JITTER)
        last = max(1.0, self.prompt - (self.pieces - 1.0) * self.room)
        some = -math.expm1(-self.started)
        mean = self.started * last / some
        square = self.started * last * last * (1.0 + self.variation + self.started) / some
        fits = min(self.row.prompt(seconds), self.room)
        within = max(filled, gamma(fits, mean, max(0.0, square - mean * mean)))
        within = (within + (self.pieces - 1.0) * filled) / self.pieces
        return (1.0 - mixed) * alone + mixed * min(within, alone)

    def first_tokens_within(self, seconds: float, z: float = 0.0) -> float:
        """Share of first tokens that take at most so long, for requests that find a place.

        The rest of the step that runs, then the prompt and those before it, gamma distributed.
        """
        squares = self.mixed * self.mixed_seconds**2 + (1.0 - self.mixed) * self.alone_seconds**2
        slower = math.exp(z * self.mixed_deviation)
        left = (seconds - self.request_seconds) / slower - squares / (2.0 * self.step)
        full = self.row.seconds(self.room)
        fits = self.row.prompt(left) if left < full else self.room * left / full
        ahead = self.preparing
        mean = self.prompt * (1.0 + ahead)
        each = self.variation + ahead * (1.0 + self.variation + self.busy * ahead)
        return gamma(fits, mean, self.prompt * self.prompt * each)


class States:
    """The states of one rank under a load, at one ``--max-num-batched-tokens``."""

    def __init__(
        self, steps: Steps, tokens: int, *, bound: bool = False, graphs: int | None = None
    ) -> None:
        """``bound``: the KV cache is what limits, so that prompts are computed again. ``graphs``:
        tokens of the largest step that has a CUDA graph, None for those of the server."""
        self.steps = steps
        self.tokens = tokens
        self.captured = steps.captured if graphs is None else graphs
        again = steps.server.found.recompute * steps.later if bound else 0.0
        self.prompt = max(1.0, steps.load.prompt + again)
        self._found: dict[int, State] = {}

    @cached_property
    def most_started(self) -> float:
        """Requests that can start in a step for which its tokens are all that limits."""
        return self.tokens / (self.prompt + self.steps.later)

    def at(self, requests: int) -> State:
        """With so many requests, at least 1."""
        found = self._found.get(requests)
        if found is None:
            found = self._found[requests] = self._state(requests)
        return found

    def _preparing(self, started: float) -> tuple[float, float, float]:
        """Requests before their first token, share of the room that is taken, and the room.

        Each is there for a step; where prompts queue for the tokens of steps, as in M/M/1.
        """
        room = max(1.0, self.tokens - started * self.steps.later)
        busy = min(1.0 - 1e-9, started * self.prompt / room)
        return max(started, busy / (1.0 - busy)), busy, room

    def _unseen(self, decodes: float, room: float) -> float:
        """What is not known of a step with a piece of a prompt, as pieces were larger."""
        if self.tokens <= self.captured:
            return 0.0
        seen = max(1.0, self.steps.server.limits.tokens - decodes)
        return unseen_pieces(piece(self.prompt, room), piece(self.prompt, seen))

    @staticmethod
    def _mixed(row: Row, prompt: float) -> float:
        """Seconds of a step with ``prompt`` tokens of prompts, had it a graph where any has."""
        return seconds_of(row.graphed, prompt) if row.held > 0.0 else row.seconds(prompt)

    def _state(self, requests: int) -> State:
        steps, later = self.steps, self.steps.later
        batch = requests / steps.stages
        # One step of prompts at least is in each stay.
        low, high = 0.0, min(batch / (later + 1.0), self.most_started)
        for _ in range(ROUNDS):
            started = (low + high) / 2
            if started * later + self._preparing(started)[0] > batch:
                high = started
            else:
                low = started
        started = (low + high) / 2
        preparing, busy, room = self._preparing(started)
        decodes = started * later
        pieces = self.prompt / piece(self.prompt, room)
        share = min(1.0, max(1.0 - math.exp(-started * pieces), busy))
        row = steps.of(decodes, self.captured)
        mean = min(room, started * self.prompt / share)
        prompts = spread(mean, started, self.prompt, steps.load.prompt_variation, room)
        mixed_seconds = sum(self._mixed(row, prompt) for prompt in prompts) / len(prompts)
        if 0.0 < row.held < room:
            varies = steps.load.prompt_variation
            part, tokens = beyond(row.held, row.even, room, started, self.prompt, varies, pieces)
            mixed_seconds += part * max(0.0, row.floor - seconds_of(row.graphed, tokens))
        ranks = steps.times.ranks
        mixed = 1.0 - (1.0 - share) ** ranks
        alone = row.seconds(0.0)
        step = mixed * mixed_seconds + (1.0 - mixed) * alone
        rate = min(started * steps.stages / step, 1.0 / max(steps.request_seconds, 1e-9))
        deviation, mixed_deviation = steps.deviations(decodes, self.captured)
        unseen = self._unseen(started * later, room)
        return State(
            requests=requests,
            started=started,
            decodes=decodes,
            preparing=preparing,
            busy=busy,
            room=room,
            prompt=self.prompt,
            variation=steps.load.prompt_variation,
            pieces=pieces,
            mixed=mixed,
            alone_seconds=alone,
            mixed_seconds=mixed_seconds,
            row=row,
            rate=rate,
            deviation=math.hypot(deviation, mixed * unseen),
            mixed_deviation=math.hypot(mixed_deviation, unseen),
            request_seconds=steps.request_seconds,
        )
