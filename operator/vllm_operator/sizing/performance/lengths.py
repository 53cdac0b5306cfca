"""Requests whose outputs differ in length (exponentially distributed ones), or do not."""

from __future__ import annotations

import math


def share_among_prompts(waits: float, later: float, *, varied: bool) -> float:
    """Share of a request's steps that fall into the ``waits`` steps with prompts of others.

    w/n for outputs of one length n; for exponentially distributed ones the mean of min(w, n)/n,
    which is 1 - e^-x + x E1(x) with x = w/n and E1 the exponential integral.
    """
    if later <= 0 or waits <= 0:
        return 0.0
    ratio = waits / later
    if not varied:
        return min(1.0, ratio)
    return min(1.0, 1.0 - math.exp(-ratio) + ratio * _exponential_integral(ratio))


def running_out_alone(batch: float, output: float) -> float:
    """Steps that the longest of ``batch`` exponentially distributed outputs of mean ``output`` goes
    on after the others: its mean is about ln(batch) times theirs."""
    return output * max(0.0, math.log(batch) - 1.0)


def waiting_in_waves(requests: float, placed: float) -> float:
    """Mean share of a burst that a request waits for a place, where outputs have one length: those
    of one wave end together, and the next begin."""
    waves = requests / placed
    full = math.floor(waves)
    return (full * (full - 1) / 2 + full * (waves - full)) / waves / waves


def _exponential_integral(x: float) -> float:
    """E1(x), to one part in a thousand (Swamee and Ohija, 1985)."""
    small = math.log((0.56146 / x + 0.65) * (1 + x))
    return float((small**-7.7 + (x**4 * math.exp(7.7 * x) * (2 + x) ** 3.7)) ** -0.13)
