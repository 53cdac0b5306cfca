"""Which setting to try, or why none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vllm_operator.api.counting import counted
from vllm_operator.sizing.performance.server import Server

from .candidates import TRUSTED, Rules, candidates, changed, is_cold, rejected
from .curve import Posterior, assumed
from .diagnosis import Bound, Diagnosis
from .durations import Durations
from .forecast import Forecasts
from .judge import LEAST_BLOCKS_BEFORE
from .knobs import Knobs, Objective
from .load import Load
from .proposals import PlanAt, Planned, Proposal, Reason, Refused, Rest
from .rating import GAIN, KEEPS, Rated, Rating
from .unseen import unseen

INTERVALS: Final = 60
BLOCKS: Final = 3
BLOCKS_ALONE: Final = LEAST_BLOCKS_BEFORE
"""Of a single replica, whose trial may have to compare before and after."""
REQUESTS: Final = 300
DRIFT: Final = 0.10
PLANS: Final = 12
"""Settings that the planner is asked about in one look."""


def choose(
    server: Server,
    posterior: Posterior | None,
    load: Load | None,
    diagnosis: Diagnosis,
    now: Knobs,
    plan_at: PlanAt,
    *,
    objective: Objective | None = None,
    rules: Rules | None = None,
    durations: Durations | None = None,
    requests: float | None = None,
) -> Proposal | Rest:
    """The setting that keeps the objective with the most tokens a second, where it is worth a try.

    ``server`` is as shipped, at the knobs of ``now``; ``requests`` are those of the intervals that
    the posterior rests on, None for those of the load. In this order: what memory allows, that the
    objective is kept with a margin, tokens a second, and of equals the fewest changed knobs, then
    the most slack, then the nearest. Where the objective is kept nothing is tried that might break
    it. Without an objective capacity is raised where requests wait, and the mean time between
    tokens at most doubled.

    Where too little was learned only memory is: the utilization, where the KV cache binds.
    """
    rules = rules or Rules()
    planned = plan_at(now)
    first = diagnosis.first
    if first.bound is Bound.BROKEN:
        return Rest(Reason.BROKEN, first.message, diagnosis)
    if load is None:
        return Rest(Reason.NO_EVIDENCE, "no request was answered", diagnosis)
    if isinstance(planned, Refused):
        said = f"the setting that runs is refused by the planner: {planned.message}"
        return Rest(Reason.NO_EVIDENCE, said, diagnosis)
    if rules.all_pinned:
        return Rest(Reason.PINNED, "every knob is pinned in spec.engine", diagnosis)
    lacking = _lacking(posterior, load, load.requests if requests is None else requests)
    if lacking is not None and not diagnosis.holds(Bound.KV_CACHE):
        return Rest(Reason.NO_EVIDENCE, lacking, diagnosis)
    believed = posterior or assumed(batch=load.in_flight)
    forecasts = Forecasts(server, believed, load, objective, now=now, kv_tokens=planned.kv_tokens)
    day = (durations or Durations()).day
    return _Choice(forecasts, diagnosis, now, planned, plan_at, rules, lacking, day).made()


def _tokens(number: float) -> str:
    return counted(f"{number:.0f}", "token")


def _lacking(posterior: Posterior | None, load: Load, requests: float) -> str | None:
    """What is missing to follow the fit; None where nothing is."""
    if posterior is None and requests < REQUESTS:
        return f"{counted(f'{requests:.0f}', 'request')} seen, and {REQUESTS} are needed"
    if posterior is None:
        return "no interval says how long a step takes"
    if not load.trusted:
        return (
            f"gauges and counters contradict each other by {100 * load.disagreement:.0f} %: "
            "requests that run are not those that time was counted for"
        )
    blocks = BLOCKS if load.pods > 1 else BLOCKS_ALONE
    if posterior.intervals < INTERVALS or posterior.blocks < blocks or requests < REQUESTS:
        return (
            f"{counted(posterior.intervals, 'interval')} in {counted(posterior.blocks, 'block')} "
            f"and {counted(f'{requests:.0f}', 'request')} seen, and {INTERVALS}, {blocks} and "
            f"{REQUESTS} are needed"
        )
    if abs(posterior.drift) > DRIFT:
        return f"steps take {100 * posterior.drift:+.0f} % of what they took half an hour ago"
    return None


class _Choice:
    def __init__(
        self,
        forecasts: Forecasts,
        diagnosis: Diagnosis,
        now: Knobs,
        planned: Planned,
        plan_at: PlanAt,
        rules: Rules,
        lacking: str | None,
        day: float,
    ) -> None:
        self.day = day
        self.forecasts, self.objective = forecasts, forecasts.objective
        self.rating = Rating(forecasts, now, planned.kv_tokens, rules)
        self.diagnosis, self.now, self.planned = diagnosis, now, planned
        self.plan_at, self.rules, self.lacking = plan_at, rules, lacking

    def made(self) -> Proposal | Rest:
        """The choice."""
        if not self.rating.broken and self.diagnosis.bound is Bound.LOAD:
            return self._rest(Reason.CAP_NOT_BINDING, self.diagnosis.first.message)
        binds = self.diagnosis.holds(Bound.KV_CACHE) or self.rating.short_of_cache
        if not (self.rating.broken or self.rating.behind or binds):
            return self._rest(Reason.NOTHING_TO_GAIN, self._kept())
        best = self._best(binds)
        if best is None:
            guess = self._unseen()
            if guess is not None:
                return guess
            best = self._best(binds, far=True)
        if best is None:
            return self._settled()
        if self.diagnosis.bound is Bound.UNEVEN:
            return self._rest(Reason.UNEVEN, self.diagnosis.first.message)
        cost, gain = self._cost(best.knobs), self._gain(best)
        if not self.rating.broken and gain * self.day <= cost:
            return self._rest(
                Reason.NOT_WORTH_A_START,
                f"{self._moves(best.knobs)} would give {_tokens(gain)} a second more, and the "
                f"starts cost {_tokens(cost)}, more than that in a day",
            )
        return Proposal(
            knobs=best.knobs,
            diagnosis=self.diagnosis,
            now=self.rating.here,
            predicted=best.forecast,
            cold=is_cold(self.now, best.knobs),
            message=f"{self._moves(best.knobs)}: {self._why(best)}",
        )

    def _best(self, binds: bool, *, far: bool = False) -> Rated | None:
        """The best setting that is worth trying and that the planner takes; ``far``: of all that
        are expected to keep the objective, with fewer requests than the fit is followed to too, as
        nothing nearer is.

        All are rated with the KV cache of now; those at the top are planned, and rated again with
        what the planner says, until one stays at the top.
        """
        ceiling = self.planned.ceiling if binds else None
        # Without an objective nobody says how long a prompt may take.
        tokens = self.lacking is None and self.rating.asked
        # Requests that wait for their prompt run too, so that more places than batches are of use.
        seen = 2.0 * TRUSTED * self.forecasts.posterior.batch
        most = seen if seen > self.rules.graphs.largest else min(seen, self.rules.graphs.largest)
        found = []
        for knobs in candidates(self.now, self.rules, ceiling=ceiling, tokens=tokens, most=most):
            if rejected(knobs, self.rules, self.rating.load.fingerprint):
                continue
            steps = replace(knobs, gpu_memory_utilization=self.now.gpu_memory_utilization)
            if self.lacking is not None and changed(self.now, steps):
                continue
            raised = knobs.gpu_memory_utilization > self.now.gpu_memory_utilization
            # With more memory than now at least as much is held: planned below before it counts.
            rated = None
            if not raised:
                rated = self.rating.rated(knobs, self.planned.kv_tokens, far=far)
            found.append((knobs, rated))
        return self._planned(found, far=far)

    def _unseen(self) -> Proposal | None:
        """A setting that only a trial can tell something of."""
        kv_tokens = self.planned.kv_tokens
        found = None if self.lacking else unseen(self.rating, kv_tokens, self.plan_at)
        if found is None:
            return None
        knobs, planned = found
        seen = self.forecasts.posterior.batch
        return Proposal(
            knobs=knobs,
            diagnosis=self.diagnosis,
            now=self.rating.here,
            predicted=self.forecasts.at(knobs, planned.kv_tokens),
            cold=is_cold(self.now, knobs),
            message=f"{self._moves(knobs)}: by the hardware's figures gaps between tokens would be "
            f"kept; by what was learned from {counted(f'{seen:.0f}', 'request')} at once nothing "
            "would keep them, "
            "and fewer were not seen",
        )

    def _planned(self, found: Sequence[tuple[Knobs, Rated | None]], *, far: bool) -> Rated | None:
        open_ones = {knobs: rated for knobs, rated in found if rated is not None}
        raised = self._raised([knobs for knobs, rated in found if rated is None])
        open_ones |= {one.knobs: one for one in raised}
        sure = {raised[0].knobs} if raised else set[Knobs]()
        for _ in range(PLANS):
            worth = [
                one
                for one in open_ones.values()
                if self.rating.worth(one) and (one.tier >= KEEPS or not far)
            ]
            if not worth:
                return None
            top = min(worth, key=self.rating.order(worth))
            if top.knobs in sure:
                return top
            del open_ones[top.knobs]
            planned = self.plan_at(top.knobs)
            if isinstance(planned, Planned):
                again = self.rating.rated(top.knobs, planned.kv_tokens, far=far)
                if again is not None:
                    open_ones[top.knobs] = again
                    sure.add(top.knobs)
        return None

    def _raised(self, knobs: Sequence[Knobs]) -> list[Rated]:
        """Those with a higher utilization: one plan tells the KV cache of all of them, near enough
        to rate them, and each that is taken is planned by itself."""
        same = [one for one in knobs if not is_cold(self.now, one) and one.cap == self.now.cap]
        if not same:
            return []
        planned = self.plan_at(same[0])
        if isinstance(planned, Refused):
            return []
        rated = [self.rating.rated(one, planned.kv_tokens) for one in knobs]
        return [one for one in rated if one is not None]

    def _cost(self, knobs: Knobs) -> float:
        """Tokens that are not served while one pod starts anew and then all of them do."""
        rules, pods = self.rules, self.rating.load.pods
        seconds = rules.cold_seconds if is_cold(self.now, knobs) else rules.warm_seconds
        return seconds * (1 + pods) * self.rating.here.tokens_per_second

    def _gain(self, one: Rated) -> float:
        """Tokens a second of all pods that are served more than now."""
        more = one.forecast.tokens_per_second - self.rating.here.tokens_per_second
        return more * self.rating.load.pods

    def _rest(self, reason: Reason, message: str, replicas: int | None = None) -> Rest:
        return Rest(reason, message, self.diagnosis, self.rating.here, replicas)

    def _settled(self) -> Rest:
        """No setting is worth trying."""
        if self.lacking is not None:
            return self._rest(Reason.NO_EVIDENCE, self.lacking)
        if not self.rating.broken and not self.rating.load.saturated:
            return self._rest(Reason.NOTHING_TO_GAIN, self._kept())
        replicas = self.forecasts.replicas(self.now, self.planned.kv_tokens)
        what = "keep the objective" if self.rating.asked else "keep up"
        if replicas is None:
            said = f"no flag helps, and no number of replicas up to 64 would {what}"
        elif replicas <= self.rating.load.pods:
            return self._rest(
                Reason.NOTHING_TO_GAIN, "no setting is expected to do better than the one that runs"
            )
        else:
            said = f"no flag helps: {counted(replicas, 'replica')} would {what}"
        return self._rest(Reason.SCALE_OUT, f"{said} with the flags of now", replicas)

    def _kept(self) -> str:
        here = self.rating.here
        said = f"what is asked for is {_tokens(here.tokens_per_second)} a second for a pod"
        if self.rating.behind:
            said = f"no setting gives {100 * GAIN:.0f} % more tokens a second"
        return f"{said}, and the objective is kept" if self.rating.asked else said

    def _moves(self, then: Knobs) -> str:
        """What is changed, in vLLM's words."""
        now = self.now
        said = []
        if then.max_num_seqs != now.max_num_seqs:
            said.append(f"max-num-seqs {now.max_num_seqs} -> {then.max_num_seqs}")
        elif then.cap != now.cap:
            said.append(f"max-num-active-seqs {now.cap} -> {then.cap}")
        if then.max_num_batched_tokens != now.max_num_batched_tokens:
            before = now.max_num_batched_tokens
            said.append(f"max-num-batched-tokens {before} -> {then.max_num_batched_tokens}")
        if then.gpu_memory_utilization != now.gpu_memory_utilization:
            before_u, after_u = now.gpu_memory_utilization, then.gpu_memory_utilization
            said.append(f"gpu-memory-utilization {before_u:.2f} -> {after_u:.2f}")
        return ", ".join(said)

    def _why(self, one: Rated) -> str:
        then, here, objective = one.forecast, self.rating.here, self.objective
        said = [
            f"{_tokens(then.tokens_per_second)} a second for a pod instead of "
            f"{here.tokens_per_second:.0f} ({then.low:.0f} to {then.high:.0f})"
        ]
        for name, limit, before, after in (
            (
                "gaps between tokens",
                objective.inter_token_latency,
                here.inter_token_share,
                then.inter_token_share,
            ),
            (
                "first tokens",
                objective.time_to_first_token,
                here.time_to_first_share,
                then.time_to_first_share,
            ),
        ):
            if limit is not None and before is not None and after is not None:
                said.append(
                    f"{100 * after:.1f} % of {name} within {1000 * limit:.0f} ms instead of "
                    f"{100 * before:.1f} %, and {objective.percentile:g} % are asked for"
                )
        return "; ".join(said)
