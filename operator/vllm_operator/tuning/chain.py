"""Requests in an engine as a birth and death process: throughput, waits, and what is late."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from .distributions import gamma
from .knobs import Objective
from .states import States, ladder

NEGLIGIBLE: Final = 1e12
"""Times the weight of a state that all smaller ones together have; larger ones do not matter."""
MOST: Final = 8192
"""Requests in one rank."""
WAITS: Final = 6
"""Parts of equal probability into which an exponential wait is cut."""


class Track:
    """What states do, for every number of requests: computed for some, interpolated between."""

    def __init__(self, states: States, objective: Objective, z: float) -> None:
        """``z``: by how many deviations steps are slower than expected."""
        self.states, self.objective, self.z = states, objective, z
        self.ends, self.good, self.soon = [0.0], [1.0], [1.0]
        self._rungs = ladder(MOST)
        self._found: dict[int, tuple[float, float, float]] = {}

    def exactly(self, requests: int) -> tuple[float, float, float]:
        """Requests that end in a second, shares of gaps and of first tokens within."""
        found = self._found.get(requests)
        if found is None:
            state = self.states.at(requests)
            gap, first = self.objective.inter_token_latency, self.objective.time_to_first_token
            found = self._found[requests] = (
                state.rate / math.exp(self.z * state.deviation),
                1.0 if gap is None else state.gaps_within(gap, self.z),
                1.0 if first is None else state.first_tokens_within(first, self.z),
            )
        return found

    def upto(self, requests: int) -> None:
        """Has ``ends``, ``good`` and ``soon`` for at least so many requests."""
        while len(self.ends) <= requests:
            low = len(self.ends) - 1
            high = self._rungs[bisect_right(self._rungs, low)]
            above = self.exactly(high)
            below = self.exactly(low) if low else above
            for number in range(low + 1, high + 1):
                part = (number - low) / (high - low)
                self.ends.append(below[0] + part * (above[0] - below[0]))
                self.good.append(below[1] + part * (above[1] - below[1]))
                self.soon.append(below[2] + part * (above[2] - below[2]))

    def first_tokens_after(self, requests: int, mean: float) -> float:
        """Share of first tokens within, after waits that are exponentially distributed."""
        most = self.objective.time_to_first_token
        if most is None:
            return 1.0
        state, total = self.states.at(requests), 0.0
        for part in range(WAITS):
            left = most + mean * math.log(1.0 - (part + 0.5) / WAITS)
            total += state.first_tokens_within(left, self.z)
        return total / WAITS

    def first_tokens_behind(self, requests: int, ahead: float) -> float:
        """The same where ``ahead`` requests must end before, so that the wait is Erlang's."""
        most = self.objective.time_to_first_token
        if most is None:
            return 1.0
        ends, _, soon = self.exactly(requests)
        mean = ahead / ends
        return soon * gamma(most, mean, mean / ends)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one rank."""

    requests: float
    """That end in a second."""
    gaps: float
    """Tokens after a first one in a second."""
    kept: float
    """Of these, those within the objective."""
    first_share: float
    in_flight: float
    queueing: float
    """Mean seconds of waiting for a place."""


class Chain:
    """Requests in a rank to which ``rate`` a second are offered, as a birth and death process.

    pi(n) ~ product of rate / ends(k), k to n, where ends(k) is the rate at which requests end with
    k in the engine; with more than there are places they end as with all places taken (an M/M/c
    queue whose servers slow each other down). Sums over states are kept relative to the last:
    sum(n) = f(n) + sum(n - 1) ends(n) / rate.
    """

    def __init__(self, track: Track, rate: float) -> None:
        self.track, self.rate = track, rate
        # Of probability, requests, gaps, gaps within the objective, first tokens within it.
        self._sums = [(1.0, 0.0, 0.0, 0.0, 0.0)]
        self._found: dict[int, Outcome] = {}

    def at(self, places: int) -> Outcome:
        """With so many places."""
        self._upto(places)
        places = min(places, len(self._sums) - 1)
        found = self._found.get(places)
        if found is None:
            found = self._found[places] = self._outcome(places)
        return found

    def _outcome(self, places: int) -> Outcome:
        total, requests, gaps, kept, firsts = self._sums[places]
        ends, good, _ = self.track.exactly(places)
        later = self.track.states.steps.later
        left = ends - self.rate
        if left <= 1e-9 * ends:
            full = ends * later
            return Outcome(ends, full, full * good, 0.0, math.inf, math.inf)
        waiting = self.rate / left
        total += waiting
        gaps += ends * later * waiting
        kept += ends * later * good * waiting
        requests += places * waiting + self.rate * ends / (left * left)
        delayed = (1.0 + waiting) / total
        late = self.track.first_tokens_after(places, 1.0 / left)
        return Outcome(
            requests=self.rate,
            gaps=gaps / total,
            kept=kept / total,
            first_share=firsts / total + delayed * late,
            in_flight=requests / total,
            queueing=delayed / left,
        )

    def _upto(self, places: int) -> None:
        if len(self._sums) > places:
            return
        self.track.upto(places)
        ends_at, good_at, soon_at = self.track.ends, self.track.good, self.track.soon
        total, requests, gaps, kept, firsts = self._sums[-1]
        later = self.track.states.steps.later
        for number in range(len(self._sums), places + 1):
            if total >= NEGLIGIBLE:
                return
            ends = ends_at[number]
            factor, tokens = ends / self.rate, ends * later
            total = 1.0 + total * factor
            requests = number + requests * factor
            gaps = tokens + gaps * factor
            kept = tokens * good_at[number] + kept * factor
            # One that arrives finds a request fewer than there are then.
            firsts = (firsts + soon_at[number]) * factor
            self._sums.append((total, requests, gaps, kept, firsts))
