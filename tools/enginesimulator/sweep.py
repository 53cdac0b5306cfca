"""What settings do alone on a workload's arrivals, and which of all is the best.

Every setting meets the same arrivals, lengths, places behind the Service and jitter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.tuning.knobs import Knobs

from . import state as at
from .engine import Batch
from .load import Phase, phases
from .planned import Server
from .seconds import NEVER
from .service import MINUTE, Minute, Service, objective_of

SIZES: Final = (4, *range(8, 256, 8), *range(256, 1025, 16))
"""Sizes of CUDA graphs from 4 to 1024."""
TOKENS: Final = (512, 1024, 2048, 4096, 8192, 16384)
COARSE: Final = (4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 224, 256)
COARSE_ABOVE: Final = (320, 384, 512, 640, 768, 1024)
SCREENED_MINUTES: Final = 24.0
"""Of a workload, over all phases, in which settings are compared before the best are replayed."""
REPLAYED: Final = 4
"""Settings that are replayed in full."""
NEAR: Final = 0.02
"""By which share the screening's figures may be off: what is behind by more is not replayed."""
SLOWER: Final = 2.0
"""Without an objective the mean time between tokens may be so many times the start's."""
ENOUGH: Final = 0.9995
"""Of all tokens that are asked for: no setting can be much better."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting did."""

    tokens: float
    """Output tokens a second, over the whole arrivals."""
    gap: float
    """Mean seconds between two tokens."""
    slow_gaps: float
    """Share of the times between tokens above the objective."""
    slow_firsts: float
    """Share of the first tokens that came too late, those that are still to come too."""
    offered: float
    """Output tokens a second that arrived; infinite where clients wait for answers."""
    minutes: dict[int, Minute]
    cap_bound: bool
    cache_bound: bool
    budget_bound: bool
    most_running: int
    used: int
    """Most blocks of a pod that were in use."""

    def kept(self, share: float | None, ceiling: float) -> bool:
        """Whether the objective was kept; without one, whether ``gap`` is at most ``ceiling``."""
        if share is None:
            return self.gap <= ceiling
        allowed = 1.0 - share + 1e-9
        return self.slow_gaps <= allowed and self.slow_firsts <= allowed

    @property
    def violation(self) -> float:
        """How far it was from keeping the objective."""
        return self.slow_gaps + self.slow_firsts


class Replays:
    """A workload's settings, each replayed once."""

    def __init__(self, server: Server, workload: Mapping[str, Any]) -> None:
        self.server, self.workload = server, workload
        self.objective = objective_of(workload)
        self.simulated = 0.0
        """Seconds that pods were simulated, over all replays."""
        self._whole = phases(workload, server.max_model_len)
        share = min(1.0, SCREENED_MINUTES / workload["minutes"])
        self._screen = phases(workload, server.max_model_len, share=share)
        self._batches: tuple[dict[Any, list[Batch]], dict[Any, list[Batch]]] = ({}, {})
        self._full: dict[Knobs, Outcome] = {}
        self._screened: dict[Knobs, Outcome] = {}
        balance = workload.get("balance") or [1.0]
        disturbances = workload.get("truth", {}).get("disturbances", ())
        disturbed = any(one.get("pod") is not None for one in disturbances)
        self._alike = len(set(balance)) == 1 and not disturbed

    def full(self, knobs: Knobs) -> Outcome | None:
        """What a setting does with all arrivals; None where it has no plan."""
        if self.server.planned(knobs) is None:
            return None
        if knobs not in self._full:
            self._full[knobs] = self._replay(knobs, self._whole, self._batches[0], None)
        return self._full[knobs]

    def kept(self, outcome: Outcome) -> bool:
        """Whether it keeps the objective; without one, what the start's latency allows."""
        start = self.full(self.server.start)
        assert start is not None
        share = None if self.objective is None else self.objective.share
        return outcome.kept(share, SLOWER * start.gap)

    def best(self) -> tuple[Knobs, Outcome, bool]:
        """The setting with most tokens among those that keep the objective, and whether one does;
        where none does the one that is nearest."""
        start = self.full(self.server.start)
        assert start is not None
        found = [(self.server.start, start)]
        if self.kept(start) and start.tokens >= ENOUGH * start.offered:
            return self.server.start, start, True
        for replayed, knobs in enumerate(self._promising()):
            outcome = self.full(knobs)
            if outcome is None:
                continue
            found.append((knobs, outcome))
            keeping = [one for one in found if self.kept(one[1])]
            enough = any(one.tokens >= ENOUGH * one.offered for _, one in keeping)
            if enough or replayed + 1 >= (REPLAYED if keeping else 2 * REPLAYED):
                break
        keeping = [one for one in found if self.kept(one[1])]
        if keeping:
            return (*max(keeping, key=lambda one: one[1].tokens), True)
        return (*min(found, key=lambda one: one[1].violation), False)

    def best_of(self, settings: Sequence[Knobs]) -> Knobs | None:
        """Of some settings the one that a benchmark beforehand would choose: most tokens on an
        excerpt of the arrivals among those that keep the objective there, else the nearest."""
        planned = [knobs for knobs in settings if self._look(knobs) is not None]
        return min(planned, key=self._rank, default=None)

    def points(self) -> list[tuple[float, float, float]]:
        """Tokens a step, mean time between two tokens and generated tokens a step, by minute of
        the start's replay."""
        start = self.full(self.server.start)
        assert start is not None
        return [
            (one.step_tokens / one.steps, one.gap_seconds / one.gaps, one.gaps / one.steps)
            for one in start.minutes.values()
            if one.steps and one.gaps
        ]

    def _promising(self) -> Iterator[Knobs]:
        """Settings in the order in which they are worth replaying."""
        start = self.server.start
        for size in (*COARSE, *COARSE_ABOVE):
            for knobs in self._settings(size):
                self._look(knobs)
        tops = sorted(self._screened, key=self._rank)[:3]
        near = {size for top in tops for size in _neighbours(top.max_num_seqs)}
        for size in sorted(near):
            for knobs in self._settings(size):
                if any(knobs.max_num_batched_tokens == top.max_num_batched_tokens for top in tops):
                    self._look(knobs)
        seen: list[tuple[float, float]] = []
        first = None
        for knobs in sorted(self._screened, key=self._rank):
            outcome = self._screened[knobs]
            first = first or outcome
            if self._screen_kept(first) and outcome.tokens < (1 - NEAR) * first.tokens:
                # Those behind it differ by more than the screening errs, or break the objective.
                continue
            if (outcome.tokens, outcome.gap) in seen or knobs == start:
                continue
            seen.append((outcome.tokens, outcome.gap))
            yield knobs

    def _rank(self, knobs: Knobs) -> tuple[bool, float]:
        outcome = self._screened[knobs]
        kept = self._screen_kept(outcome)
        return not kept, -outcome.tokens if kept else outcome.violation

    def _screen_kept(self, outcome: Outcome) -> bool:
        start = self._look(self.server.start)
        share = None if self.objective is None else self.objective.share
        return outcome.kept(share, SLOWER * (start.gap if start else NEVER))

    def _settings(self, size: int) -> Iterator[Knobs]:
        start = self.server.start.gpu_memory_utilization
        for utilization in dict.fromkeys((start, self.server.ceiling)):
            for tokens in TOKENS:
                if tokens >= size:
                    yield Knobs(size, tokens, utilization)

    def _look(self, knobs: Knobs) -> Outcome | None:
        planned = self.server.planned(knobs)
        if planned is None:
            return None
        if knobs not in self._screened:
            same = (one for one in self._screened.items() if self._same(knobs, *one))
            found = next((outcome for _, outcome in same), None)
            only = 0 if self._alike else None
            self._screened[knobs] = found or self._replay(
                knobs, self._screen, self._batches[1], only
            )
        return self._screened[knobs]

    def _same(self, knobs: Knobs, other: Knobs, outcome: Outcome) -> bool:
        """Whether a setting must do what another did: no limit that differs was reached."""
        a, b = self.server.planned(knobs), self.server.planned(other)
        assert a is not None
        assert b is not None
        if knobs.cap != other.cap:
            graphs = min(knobs.max_num_seqs, other.max_num_seqs) >= 256
            if outcome.cap_bound or not graphs or knobs.cap < outcome.most_running:
                return False
        tokens = knobs.max_num_batched_tokens, other.max_num_batched_tokens
        if tokens[0] != tokens[1] and (outcome.budget_bound or tokens[0] < tokens[1]):
            return False
        if a.blocks == b.blocks:
            return True
        longest = self.server.max_model_len // a.block_size + 1
        return not outcome.cache_bound and a.blocks > outcome.used + longest

    def _replay(
        self,
        knobs: Knobs,
        arriving: tuple[Phase, ...],
        batches: dict[Any, list[Batch]],
        only: int | None,
    ) -> Outcome:
        every = MINUTE if knobs == self.server.start and only is None else NEVER
        service = Service(
            self.server,
            self.workload,
            every=every,
            arriving=arriving,
            batches=batches,
            only=only,
        )
        for place in range(len(service.balance)):
            service.add(knobs, place)
        service.advance(service.end)
        simulated = 1 if only is not None else len(service.pods)
        self.simulated += service.end * simulated
        gaps, seconds = service.gaps()
        firsts, late = service.firsts()
        offered = sum(one.output for phase in arriving for one in phase.arrivals)
        closed = any(phase.clients for phase in arriving)
        part = service.balance[0] / sum(service.balance) if only is not None else 1.0
        return Outcome(
            tokens=service.count(at.GENERATED) / service.end,
            gap=seconds / gaps if gaps else 0.0,
            slow_gaps=service.count(at.SLOW_GAPS) / gaps if gaps else 0.0,
            slow_firsts=late / firsts if firsts else 0.0,
            offered=NEVER if closed else part * offered / service.end,
            minutes=service.minutes,
            cap_bound=service.count(at.CAP_BOUND) > 0,
            cache_bound=service.count(at.CACHE_BOUND) > 0,
            budget_bound=service.count(at.BUDGET_BOUND) > 0,
            most_running=max(pod.engine.count(at.MOST_RUNNING) for pod in service.pods),
            used=max(
                pod.engine.setting.blocks - pod.engine.count(at.LEAST_FREE) for pod in service.pods
            ),
        )


def _neighbours(size: int) -> list[int]:
    """The sizes between the coarse ones on both sides."""
    coarse = (*COARSE, *COARSE_ABOVE)
    place = min(range(len(coarse)), key=lambda number: abs(coarse[number] - size))
    low, high = coarse[max(0, place - 1)], coarse[min(len(coarse) - 1, place + 1)]
    return [one for one in SIZES if low < one < high]
