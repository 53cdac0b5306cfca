"""What a server would do under its load with other knobs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from vllm_operator.sizing.performance.server import Server

from .chain import Chain, Outcome, Track
from .curve import Posterior
from .intervals import Between
from .knobs import Knobs, Objective
from .load import Load
from .states import States, Steps

Z: Final = 1.3
"""Standard deviations above the expected times at which an objective must hold: nine in ten."""
NOISE: Final = 0.005
"""Share by which seen and expected lateness may differ before the forecast follows the former."""
FOLLOWED: Final = (0.95, 1.1)
"""Factors on time by which it follows at most."""
MORE_LATE: Final = 3.0
"""Times as many as expected that it then takes to be late at most."""
SELDOM: Final = 0.8
"""Share of what the KV cache holds below which, on average, it is hardly ever full."""
ROUNDS: Final = 4
REPLICAS: Final = 64


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one pod, at the load that it was made for; of the mean pod where pods differ."""

    knobs: Knobs
    places: int
    """Requests that run at once at most: the cap, or what the KV cache holds; all ranks."""
    bound_by_cache: bool
    """Whether requests have to wait for the KV cache, or are preempted."""
    tokens_per_second: float
    """Generated."""
    low: float
    """Tokens a second at ``Z`` deviations."""
    high: float
    capacity: float
    """Tokens a second where all places are taken."""
    latency: float
    """Mean seconds between two tokens."""
    inter_token_share: float | None
    """Share of gaps within the objective; None without one."""
    inter_token_share_low: float | None
    """The same where steps are ``Z`` deviations slower."""
    time_to_first_share: float | None
    """0 where the server does not keep up with what is offered."""
    time_to_first_share_low: float | None
    in_flight: float
    """Requests that run or wait; infinite where the server does not keep up."""
    queueing: float
    """Mean seconds that a request waits for a place."""
    preemptions: float | None
    """A request; None where the KV cache would be the limit and nothing of the kind was seen."""
    deviation: float
    """Standard deviation of the logarithm of a step's time with all places taken."""
    batch: float
    """Generated tokens of a step with all places taken, of one rank."""

    @property
    def saturated(self) -> bool:
        """Whether the server does not keep up with what is offered."""
        return math.isinf(self.in_flight)

    def keeps(self, objective: Objective, *, margin: float = 0.0) -> bool:
        """Whether the shares at the slower times are at least that of the objective and, of what
        it leaves, a share ``margin`` more."""
        least = objective.share + margin * (1.0 - objective.share)
        return all(
            share is None or share >= least
            for share in (self.inter_token_share_low, self.time_to_first_share_low)
        )

    def shortfall(self, objective: Objective) -> float:
        """By how much the worse expected share is below the objective's; 0 where none is."""
        shares = (self.inter_token_share, self.time_to_first_share)
        return max(0.0, *(objective.share - share for share in shares if share is not None), 0.0)


class _Kind(NamedTuple):
    """What states depend on, beside the load."""

    tokens: int
    """Of a step at most."""
    bound: bool
    """Whether the KV cache is what limits."""
    graphs: int
    """Tokens of the largest step that has a CUDA graph."""


class Forecasts:
    """Forecasts for one server under one load; what they have in common is computed once."""

    def __init__(
        self,
        server: Server,
        posterior: Posterior,
        load: Load,
        objective: Objective | None = None,
        *,
        now: Knobs | None = None,
        kv_tokens: float | None = None,
    ) -> None:
        """``server`` is as shipped: what was learned is applied here.

        Where lateness was seen at the knobs of ``now`` that is not what is forecast for them, with
        ``kv_tokens`` in the KV cache of each rank, times are compared with an objective that is
        moved until it is, within ``FOLLOWED``, and what is left of it multiplies how many are late.
        """
        self.server, self.posterior, self.load = server, posterior, load
        self.objective = objective or Objective()
        self.steps = Steps(server, posterior, load)
        self._moved = self.objective
        self._late_gaps = self._late_firsts = 1.0
        self._states: dict[_Kind, States] = {}
        self._tracks: dict[tuple[_Kind, float], Track] = {}
        self._chains: dict[tuple[_Kind, float, float], Chain] = {}
        if now is not None:
            self._follow(now, kv_tokens)
            self._tracks.clear()
            self._chains.clear()

    def at(
        self, knobs: Knobs, kv_tokens: float | None = None, *, pods: int | None = None
    ) -> Forecast:
        """With other knobs, ``kv_tokens`` in the KV cache of each rank (None: enough for all), and
        where ``pods`` is given the load of all pods on so many."""
        return self._forecast(knobs, kv_tokens, self._moved, pods)

    def replicas(self, knobs: Knobs, kv_tokens: float | None = None) -> int | None:
        """The fewest pods that keep the objective (without one, that keep up), up to 64.

        Of clients that ask again at once, whose number does not tell what they would ask for, None.
        """
        if self.load.population is not None and self.objective == Objective():
            return None

        def enough(pods: int) -> bool:
            found = self.at(knobs, kv_tokens, pods=pods)
            return not found.saturated and found.keeps(self.objective)

        low, high = 0, self.load.pods
        while not enough(high):
            low, high = high, high * 2
            if low >= REPLICAS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def held(self, kv_tokens: float | None) -> int | None:
        """Requests of one rank that the KV cache holds at once; None for any number.

        The largest S with S m + z m sqrt(S) at most the tokens, m of a request, whose deviation is
        taken for its mean. z is 0: a preemption costs little, room that is kept free costs always;
        and 1 where the objective is of the 99th percentile, as a preempted request is late.
        """
        if kv_tokens is None:
            return None
        most = kv_tokens / self.load.held
        if self.objective.percentile >= 99.0:
            most = (math.sqrt(most + 0.25) - 0.5) ** 2
        return max(1, int(most))

    def _track(self, kind: _Kind, z: float, objective: Objective) -> Track:
        if (kind, z) not in self._tracks:
            states = self._states.get(kind)
            if states is None:
                states = self._states[kind] = States(
                    self.steps, kind.tokens, bound=kind.bound, graphs=kind.graphs
                )
            self._tracks[kind, z] = Track(states, objective, z)
        return self._tracks[kind, z]

    def _outcome(
        self, track: Track, key: tuple[_Kind, float], places: int, scale: float
    ) -> Outcome:
        ranks, load = self.steps.ranks, self.load
        if load.population is not None:
            return self._closed(track, places, load.population * scale / ranks)
        outcomes = []
        for part, rate in load.rates:
            rate *= scale / ranks
            chain = self._chains.get((*key, rate))
            if chain is None:
                chain = self._chains[(*key, rate)] = Chain(track, rate)
            outcomes.append((part, rate, chain.at(places)))
        if len(outcomes) == 1:
            return outcomes[0][2]
        offered = sum(part * rate for part, rate, _ in outcomes)
        return Outcome(
            requests=sum(part * one.requests for part, _, one in outcomes),
            gaps=sum(part * one.gaps for part, _, one in outcomes),
            kept=sum(part * one.kept for part, _, one in outcomes),
            first_share=sum(part * rate * one.first_share for part, rate, one in outcomes)
            / offered,
            in_flight=sum(part * one.in_flight for part, _, one in outcomes),
            queueing=sum(part * rate * one.queueing for part, rate, one in outcomes) / offered,
        )

    def _closed(self, track: Track, places: int, population: float) -> Outcome:
        """Of a number of requests that is always the same, of which some may have to wait."""
        running = max(1, min(places, round(population)))
        ends, good, soon = track.exactly(running)
        ahead = population - running
        first = track.first_tokens_behind(running, ahead) if ahead > 0.5 else soon
        gaps = ends * track.states.steps.later
        return Outcome(ends, gaps, gaps * good, first, population, max(0.0, ahead) / ends)

    def _forecast(
        self, knobs: Knobs, kv_tokens: float | None, objective: Objective, pods: int | None = None
    ) -> Forecast:
        held, places = self.held(kv_tokens), knobs.cap
        scale = 1.0 if pods is None else self.load.pods / pods
        ranks = self.steps.ranks
        graphs = self.server.graphs.captured(knobs.max_num_seqs) if self.steps.captured else 0
        kind = _Kind(knobs.max_num_batched_tokens, bound=False, graphs=graphs)

        def outcome(z: float, bound: bool) -> Outcome:
            here = kind._replace(bound=bound)
            return self._outcome(self._track(here, z, objective), (here, z), places, scale)

        bound = held is not None and held < places
        if held is not None and bound:
            places = held
            bound = outcome(Z, False).in_flight > SELDOM * places
        expected, slow = outcome(0.0, bound), outcome(Z, bound)
        states = self._track(kind._replace(bound=bound), 0.0, objective).states
        state = states.at(places)
        output, offered = self.load.output, self.load.rate * scale / ranks
        fast = min(offered, state.rate * math.exp(Z * state.deviation))
        if self.load.population is not None:
            fast = expected.requests * expected.requests / slow.requests
        running = max(1, round(min(float(places), expected.in_flight)))
        with_gaps = self.objective.inter_token_latency is not None
        with_first = self.objective.time_to_first_token is not None
        return Forecast(
            knobs=knobs,
            places=places * ranks,
            bound_by_cache=bound,
            tokens_per_second=expected.requests * output * ranks,
            low=min(slow.requests, expected.requests) * output * ranks,
            high=max(fast, expected.requests) * output * ranks,
            capacity=state.rate * output * ranks,
            latency=states.at(running).latency,
            inter_token_share=_less(_share(expected), self._late_gaps) if with_gaps else None,
            inter_token_share_low=_less(_share(slow), self._late_gaps) if with_gaps else None,
            time_to_first_share=_less(expected.first_share, self._late_firsts)
            if with_first
            else None,
            time_to_first_share_low=_less(slow.first_share, self._late_firsts)
            if with_first
            else None,
            in_flight=expected.in_flight * ranks,
            queueing=expected.queueing,
            preemptions=0.0 if not bound else (self.load.preemptions or None),
            deviation=state.deviation,
            batch=state.decodes,
        )

    def _follow(self, now: Knobs, kv_tokens: float | None) -> None:
        """Moves the objective, and how many are late, until as many are late now as were seen."""
        seen, asked = self.load, self.objective
        gap, first = asked.inter_token_latency, asked.time_to_first_token
        if gap is not None and seen.late_gaps is not None:

            def late(factor: float) -> float:
                tried = Objective(inter_token_latency=gap / factor)
                return 1.0 - (self._now(now, kv_tokens, tried).inter_token_share or 0.0)

            factor, more = _followed(late, seen.late_gaps)
            self._moved = replace(self._moved, inter_token_latency=gap / factor)
            self._late_gaps = more
        if first is not None and seen.late_first_tokens is not None and not seen.saturated:

            def later(factor: float) -> float:
                tried = Objective(time_to_first_token=first / factor)
                return 1.0 - (self._now(now, kv_tokens, tried).time_to_first_share or 0.0)

            factor, more = _followed(later, seen.late_first_tokens)
            self._moved = replace(self._moved, time_to_first_token=first / factor)
            self._late_firsts = more

    def _now(self, now: Knobs, kv_tokens: float | None, objective: Objective) -> Forecast:
        self._tracks.clear()
        self._chains.clear()
        return self._forecast(now, kv_tokens, objective)


def _share(outcome: Outcome) -> float:
    return outcome.kept / outcome.gaps if outcome.gaps else 1.0


def _less(share: float, more: float) -> float:
    """The share within, where ``more`` times as many are late."""
    return max(0.0, 1.0 - (1.0 - share) * more)


def _followed(late: Callable[[float], float], seen: Between) -> tuple[float, float]:
    """The factor on times, within ``FOLLOWED``, by which as many are late as were seen, and of how
    many times as many that then leaves, up to ``MORE_LATE``."""
    expected = late(1.0)
    if seen.low - NOISE <= expected <= seen.high + NOISE:
        return 1.0, 1.0
    aim = seen.low if expected < seen.low else seen.high
    low, high = (1.0, FOLLOWED[1]) if expected < aim else (FOLLOWED[0], 1.0)
    for _ in range(ROUNDS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if late(middle) < aim else (low, middle)
    factor = math.sqrt(low * high)
    return factor, min(MORE_LATE, max(1.0, aim / max(late(factor), NOISE)))


def forecast(
    server: Server,
    posterior: Posterior,
    load: Load,
    knobs: Knobs,
    kv_tokens: float | None = None,
    objective: Objective | None = None,
) -> Forecast:
    """What ``server`` would do with ``knobs``; for more than one setting see ``Forecasts``."""
    return Forecasts(server, posterior, load, objective).at(knobs, kv_tokens)
