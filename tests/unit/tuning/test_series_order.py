"""Samples mean the same in whatever order Prometheus answers with them."""

from __future__ import annotations

import random

import pytest

from support.scrapes import Kept
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.samples import Reading, Series, read


def scraped(*stamps: float, **labels: str) -> Kept:
    kept = Kept(labels={"instance": "10.0.0.1:8000", **labels})
    for stamp in stamps:
        kept.scrape(stamp, stamp)
    return kept


def told(series: list[Series]) -> Reading:
    return read("pod", series, Durations(15), None)


@pytest.mark.parametrize("seed", range(5))
def test_a_target_that_was_renamed_goes_on_whichever_name_comes_first(seed: int) -> None:
    series = scraped(0, 15, 30).series() + scraped(45, 60, job="renamed").series()
    mixed = random.Random(seed).sample(series, len(series))
    assert told(mixed) == told(series)
    assert len(told(mixed).intervals) == 4


@pytest.mark.parametrize("seed", range(5))
def test_two_scrapers_are_found_whichever_comes_first(seed: int) -> None:
    series = scraped(0, 15, 30).series() + scraped(1, 16, 31, job="other").series()
    mixed = random.Random(seed).sample(series, len(series))
    assert (told(mixed).intervals, told(mixed).scrapers) == ((), ("job",))
