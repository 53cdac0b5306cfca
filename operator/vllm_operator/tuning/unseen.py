"""Where to look when what was learned promises nothing: at batches that nobody has seen."""

from __future__ import annotations

from typing import Final

from .candidates import FURTHEST, candidates
from .curve import assumed
from .forecast import Forecasts
from .knobs import Knobs
from .proposals import PlanAt, Planned
from .rating import Rating

UNLIKE: Final = 2.0
"""Times smaller than those seen a batch is of which a curve that promises nothing may be wrong."""
SPARE: Final = (0.5, 1.0)
"""Of what may be late, what may be by the hardware's own figures; the latter where no setting has
as little as the former."""


def unseen(
    rating: Rating, kv_tokens: float | None, plan_at: PlanAt
) -> tuple[Knobs, Planned] | None:
    """Where the gaps between tokens surely are too long and nothing is expected to mend them: the
    most places with which the hardware's own figures say that half of what may be late would be,
    or, with none, that the objective would be kept.

    What was seen are large batches only, and a curve that bends between is taken for slow hardware
    throughout. An eighth of those batches is the least, half of them, or of what was tried in vain,
    the most. First tokens that are in time now have to be so by the hardware's figures too.
    ``kv_tokens`` are those of the setting that runs.
    """
    if not rating.gaps_surely_broken:
        return None
    learned, load, rules = rating.forecasts, rating.load, rating.rules
    batch = learned.posterior.batch
    shipped = Forecasts(learned.server, assumed(batch=batch), load, rating.objective)
    vain = (one.cap for one, under in rules.rejected if under.like(load.fingerprint))
    most = min([batch, *vain]) / UNLIKE
    found = candidates(rating.now, rules, ceiling=None, tokens=False, most=int(most))
    near = [knobs for knobs in found if batch / FURTHEST <= knobs.cap <= most]
    near.sort(key=lambda one: one.cap, reverse=True)
    allowed = 1.0 - rating.objective.share
    late: dict[Knobs, float] = {}
    for knobs in near:
        then = shipped.at(knobs, kv_tokens)
        first_kept = (then.time_to_first_share or 0.0) >= rating.objective.share
        if first_kept or not rating.first_tokens_kept:
            late[knobs] = 1.0 - (then.inter_token_share or 0.0)
    for spare in SPARE:
        for knobs, share in late.items():
            planned = plan_at(knobs) if share <= spare * allowed else None
            if isinstance(planned, Planned):
                return knobs, planned
    return None
