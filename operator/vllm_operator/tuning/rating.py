"""Whether a setting is better than the one that runs, by what is forecast of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .candidates import Rules, changed, distance, trusted
from .diagnosis import MOSTLY, PREEMPTED
from .forecast import Forecast, Forecasts, Z
from .intervals import Between
from .knobs import Knobs, Objective

MARGIN: Final = 0.2
"""Of the share that may be late, what is kept free."""
GAIN: Final = 0.05
"""Of tokens a second, for which a start is worth it, and tokens of a step are changed beside it."""
ALIKE: Final = 0.01
"""Of tokens a second, which no forecast tells apart."""
KEEPS: Final = 3
"""The least tier in which the objective is expected to be kept."""
SLACK: Final = 0.01
"""Of a share, likewise."""
HEADROOM: Final = 1.1
"""Times what is offered that a setting should be able to give."""
HALF: Final = 0.5
"""Of what is too much of an objective, what may be left of it for a trial."""
MEMORY: Final = 0.75
"""The same of a larger KV cache alone: steps stay as they are, and its start is a warm one."""
LOST: Final = 0.03
"""Of tokens a second, what may be lost where the objective is not kept after all."""
SLOWER: Final = 2.0
"""Times the mean inter-token latency that may be caused where nobody says what may be."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A setting with its forecast."""

    knobs: Knobs
    forecast: Forecast
    tier: int
    """4 where the objective is kept, with a margin as expected and by slower steps too; 3 with a
    margin as expected; 2 where gaps between tokens are and demand is not met; 1 where nothing is.
    """
    slack: float
    """By how much the worse share, at slower steps, is above the objective."""
    promised: float
    """Tokens a second, half way from slower steps to expected ones: of settings that serve all that
    is offered the one that surely does, with room. Less where tokens of a step change, which needs
    a reason."""


class Rating:
    """Of settings under one load."""

    def __init__(
        self, forecasts: Forecasts, now: Knobs, kv_tokens: float | None, rules: Rules
    ) -> None:
        """``now`` runs, with ``kv_tokens`` in the KV cache of each rank."""
        self.forecasts, self.load = forecasts, forecasts.load
        self.now, self.rules = now, rules
        self.objective = forecasts.objective
        self.asked = self.objective != Objective(percentile=self.objective.percentile)
        self.here = forecasts.at(now, kv_tokens)
        self.broken = self._broken()

    @property
    def behind(self) -> bool:
        """Whether requests wait for places, so that more of them would be used."""
        return self.load.saturated or self.load.waiting > MOSTLY

    def _broken(self) -> bool:
        """Whether the objective is broken now: as seen where buckets tell, else as expected."""
        return any(
            expected is not None and _is_broken(seen, expected, self.objective.share)
            for seen, expected in self._parts()
        )

    def _parts(self) -> tuple[tuple[Between | None, float | None], ...]:
        """Of both parts of the objective what share was seen late, and which is expected kept."""
        return (
            (self.load.late_gaps, self.here.inter_token_share),
            (self.load.late_first_tokens, self.here.time_to_first_share),
        )

    @staticmethod
    def _shares(forecast: Forecast) -> tuple[float | None, float | None]:
        return forecast.inter_token_share_low, forecast.time_to_first_share_low

    def rated(self, knobs: Knobs, kv_tokens: float | None, *, far: bool = False) -> Rated | None:
        """None where the fit may not be followed; ``far``: whether it is to the fewest requests,
        of which it does not matter then how surely they keep the objective."""
        forecast = self.forecasts.at(knobs, kv_tokens)
        posterior = self.forecasts.posterior
        if not trusted(
            self.now,
            knobs,
            posterior,
            self.rules,
            batch=forecast.batch,
            deviation=forecast.deviation,
            far=far,
        ):
            return None
        promised = (forecast.low + forecast.tokens_per_second) / 2 * self._headroom(forecast)
        if knobs.max_num_batched_tokens != self.now.max_num_batched_tokens:
            promised /= 1.0 + GAIN
        if not self.asked:
            fits = self._guarded(forecast)
            return Rated(knobs, forecast, 4, 0.0, promised) if fits else None
        slow = _worse(forecast.inter_token_share_low, forecast.time_to_first_share_low)
        expected = _worse(forecast.inter_token_share, forecast.time_to_first_share)
        gap = _worse(forecast.inter_token_share_low)
        surely = slow >= self.objective.share and not far
        tier = 1 if expected < self.least else 4 if surely else KEEPS
        if tier == 1 and forecast.saturated and gap >= self.least:
            tier, slow = 2, gap
        return Rated(knobs, forecast, tier, slow - self.objective.share, promised)

    def _headroom(self, forecast: Forecast) -> float:
        """1 where slower steps too leave room beyond what is offered, less where they do not: a
        server at its limit has a queue for the least disturbance."""
        if self.load.population is not None:
            return 1.0
        surely = forecast.capacity / math.exp(Z * forecast.deviation)
        return min(1.0, surely / (HEADROOM * self.load.rate * self.load.output))

    @property
    def least(self) -> float:
        """The share with its margin."""
        share = self.objective.share
        return share + MARGIN * (1.0 - share)

    def _guarded(self, forecast: Forecast) -> bool:
        """Whether, without an objective, tokens come at most twice as slowly as at first."""
        first = self.rules.first_latency or self.load.latency
        at_most = forecast.latency * math.exp(forecast.deviation)
        return forecast.latency <= self.here.latency or at_most <= SLOWER * first

    def worth(self, one: Rated) -> bool:
        """Whether it is enough better than what runs."""
        here, then = self.here, one.forecast
        faster = then.tokens_per_second >= (1.0 + GAIN) * here.tokens_per_second
        # Of two settings with the same steps both are as slow, however slow that is.
        same = not changed(self.now, replace(one.knobs, gpu_memory_utilization=self._utilization))
        faster = faster and then.low >= (here.low if same else here.tokens_per_second)
        if not self.asked:
            return faster
        if self._harms(one):
            return False
        if not self.broken:
            return one.tier == 4 and (faster or self._calmer(one))
        if one.tier >= KEEPS:
            return True
        # Tokens are given up for an objective that is kept, and for nothing less.
        if then.tokens_per_second < (1.0 - LOST) * here.tokens_per_second:
            return False
        if one.tier == 2 and (faster or self._gaps_broken()):
            return True
        left = MEMORY if same else HALF
        return then.shortfall(self.objective) <= left * here.shortfall(self.objective)

    @property
    def short_of_cache(self) -> bool:
        """Whether the objective is broken and requests are expected to wait for the KV cache."""
        return self.broken and self.here.bound_by_cache

    @property
    def _utilization(self) -> float:
        return self.now.gpu_memory_utilization

    @property
    def gaps_surely_broken(self) -> bool:
        """Whether more gaps between tokens were seen late than may be, whatever is expected."""
        late = self.load.late_gaps
        return late is not None and late.low > 1.0 - self.objective.share

    @property
    def first_tokens_kept(self) -> bool:
        """Whether first tokens have an objective that is kept now."""
        seen, expected = self._parts()[1]
        return expected is not None and not _is_broken(seen, expected, self.objective.share)

    def _gaps_broken(self) -> bool:
        share = self.here.inter_token_share
        return share is not None and _is_broken(self.load.late_gaps, share, self.objective.share)

    def _harms(self, one: Rated) -> bool:
        """Whether it might break a part of the objective that is kept now."""
        share = self.objective.share
        parts = zip(self._parts(), self._shares(one.forecast), strict=True)
        return any(
            expected is not None
            and low is not None
            and not _is_broken(seen, expected, share)
            and low < min(share, expected)
            for (seen, expected), low in parts
        )

    def _calmer(self, one: Rated) -> bool:
        """Whether fewer requests are preempted, where the last percent of them counts."""
        counts = self.objective.percentile >= 99.0 and self.load.preemptions > PREEMPTED
        same = one.forecast.tokens_per_second >= (1.0 - ALIKE) * self.here.tokens_per_second
        return counts and same and one.forecast.preemptions == 0.0

    def order(self, among: Sequence[Rated]) -> Callable[[Rated], tuple[float, ...]]:
        """Least for the best of ``among``."""
        tier = max(one.tier for one in among)
        most = max(one.promised for one in among if one.tier == tier)

        def order(one: Rated) -> tuple[float, ...]:
            missing = 0.0 if tier > 1 else one.forecast.shortfall(self.objective)
            alike = one.promised >= (1.0 - ALIKE) * most
            return (
                -one.tier,
                round(missing / SLACK),
                0.0 if alike else most - one.promised,
                changed(self.now, one.knobs),
                -round(one.slack / SLACK),
                distance(self.now, one.knobs),
                *(one.knobs.cap, one.knobs.max_num_batched_tokens),
            )

        return order


def _worse(*shares: float | None) -> float:
    return min((share for share in shares if share is not None), default=1.0)


def _is_broken(seen: Between | None, expected: float, share: float) -> bool:
    if seen is not None and seen.low > 1.0 - share:
        return True
    if seen is not None and seen.high <= 1.0 - share:
        return False
    return expected < share
