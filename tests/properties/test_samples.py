"""Whatever happens to samples on their way, no interval says what the engine did not do."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.scrapes import Kept
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.samples import Series, read

EVENTS = ("lost", "restarted", "not a number", "repeated", "jumped on", "jumped back", "down")
WORK_STEPS = 100.0
met: Counter[str] = Counter()


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], list[float], int, float, bool]:
    """What happens at each scrape, the work done before it, engines, scrape and own start time."""
    length = draw(st.integers(2, 25))
    happenings = st.sampled_from(["none"] * 12 + list(EVENTS))
    events = draw(st.lists(happenings, min_size=length, max_size=length))
    work = draw(st.lists(st.floats(0.1, 50), min_size=length, max_size=length))
    scrape = draw(st.sampled_from([1.0, 5.0, 15.0, 30.0]))
    return events, work, draw(st.integers(1, 3)), scrape, draw(st.booleans())


def play(
    events: list[str], work: list[float], engines: int, scrape: float, start_known: bool
) -> tuple[Kept, dict[float, tuple[float, float, int]]]:
    """The samples, and by their stamp the true time, the true work and the life of the process.

    Prometheus refuses samples that are older than its newest. Jumps after which stamps lie a usual
    distance apart show in nothing, as the module says, and are played as larger ones.
    """
    kept = Kept(engines, without=() if start_known else ("processStart",))
    truth: dict[float, tuple[float, float, int]] = {}
    done, life, ahead, down = 0.0, 0, 0.0, 0
    for number, (event, more) in enumerate(zip(events, work, strict=True)):
        now = 1000 + number * scrape
        jump = 0.2 + 0.6 * number / len(events)
        done += more
        if event == "restarted":
            # A start that nothing tells shows by a counter that is lower than before.
            done, life = (done if start_known else 0.01 / (life + 1)), life + 1
        elif event == "jumped on":
            ahead += (number + jump) * scrape
        elif event == "jumped back":
            ahead -= (2 + jump) * scrape
        elif event == "down":
            down = 4
        down -= 1
        if truth:
            last = max(truth)
            apart, really = now + ahead - last, now - truth[last][0]
            if abs(apart - really) > 1e-6 and abs(apart - scrape) <= max(0.1 * scrape, 0.3):
                ahead += 1.5 * scrape
        stamp = now + ahead
        if event == "lost" or down >= 0 or (truth and stamp <= max(truth)):
            continue
        kept.scrape(stamp, done, started=life)
        truth[stamp] = now, done, life
        if event == "not a number":
            chosen = sorted(kept.samples)[number % len(kept.samples)]
            kept.samples[chosen][-1] = (stamp, math.nan)
        elif event == "repeated":
            for samples in kept.samples.values():
                samples.append(samples[-1])
    return kept, truth


@settings(max_examples=100, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def tells_only_the_truth(
    history: tuple[list[str], list[float], int, float, bool], shuffler: random.Random
) -> None:
    kept, truth = play(*history)
    for samples in kept.samples.values():
        shuffler.shuffle(samples)
    engines, scrape = history[2], history[3]
    reading = read("pod", kept.series(), Durations(15))
    met.update(event for event in history[0] if event != "none")
    met["intervals"] += len(reading.intervals)
    for interval in reading.intervals:
        begin = min(truth, key=lambda stamp: abs(stamp - interval.end + interval.seconds))
        (before, done, life), (after, more, later) = truth[begin], truth[interval.end]
        assert life == later
        assert interval.seconds == pytest.approx(after - before)
        assert interval.seconds <= max(15, scrape) * 2
        assert interval.steps == pytest.approx((more - done) * WORK_STEPS * engines, abs=1e-6)
        assert interval.gap_seconds == pytest.approx((more - done) * 20 * engines, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(histories())
def tells_nothing_of_two_scrapers(
    history: tuple[list[str], list[float], int, float, bool],
) -> None:
    kept, truth = play(*history)
    again = [
        Series(one.meaning, one.part, {**one.labels, "job": "again"}, one.samples)
        for one in kept.series()
    ]
    reading = read("pod", kept.series() + again, Durations(15))
    assert reading.intervals == ()
    assert reading.scrapers == (("job",) if truth else ())


def test_no_interval_is_wrong_whatever_happened_to_the_samples() -> None:
    met.clear()
    tells_only_the_truth()
    assert all(met[event] >= 5 for event in EVENTS), met
    assert met["intervals"] >= 100, met


def test_two_scrapers_of_one_pod_never_make_an_interval() -> None:
    tells_nothing_of_two_scrapers()
