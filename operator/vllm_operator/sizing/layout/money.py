"""What layouts cost, where prices are given: ``Cost`` chooses by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vllm_operator.hardware.prices import NO_PRICES
from vllm_operator.sizing.asked.specification import Asked

from .search import Layout
from .speed import estimated, performance_of

SECONDS_OF_AN_HOUR = 3600
MILLION = 1_000_000

Priced = Callable[[Layout], float | None]
"""The price of a layout; None where none is given."""


def per_hour(asked: Asked, layout: Layout) -> float | None:
    """Price of an hour of a replica; None where the product has none."""
    price = asked.prices.of(layout.gpu.offer.product)
    return None if price is None else price * layout.division.gpus


def per_million_tokens(hour: float, tokens_per_second: float) -> float:
    """Price of a million tokens of a replica that makes so many in each second of the hour."""
    return hour / (tokens_per_second * SECONDS_OF_AN_HOUR) * MILLION


def pricing(asked: Asked, layouts: Sequence[Layout]) -> tuple[Priced, str] | None:
    """How the layouts are compared by money, and in which words; None where it decides nothing.

    By a million output tokens where it is said how many requests there are at once, and the speed
    of every product with a price is known; else by the hour.
    """
    if not asked.features.profile.cheap or asked.prices == NO_PRICES:
        return None
    currency = asked.prices.currency
    priced = [one for one in layouts if per_hour(asked, one) is not None]
    if asked.load.concurrency is not None:
        found = {id(one): _per_million(asked, one) for one in priced}
        if all(price is not None for price in found.values()):
            return (lambda one: found.get(id(one))), f"{currency} for a million output tokens"
    return (lambda one: per_hour(asked, one)), f"{currency} an hour"


def _per_million(asked: Asked, layout: Layout) -> float | None:
    gpu, hour, load = performance_of(asked, layout), per_hour(asked, layout), asked.load
    if gpu is None or hour is None or asked.architecture.pooling:
        return None
    concurrency = (load.concurrency or 1) * asked.pins.ranks
    found = estimated(asked, layout, gpu, load.prompt_tokens, load.output_tokens, concurrency)
    return per_million_tokens(hour, found.output_tokens_per_second)
