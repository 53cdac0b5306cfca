"""What is absent, old, broken or unclear holds; only sound metrics pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.scrapes import Kept
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.quality import Hold, held
from vllm_operator.tuning.samples import Reading, read

DURATIONS = Durations(15)
NOW = 160.0


def sound(work: float = 1) -> Reading:
    kept = Kept()
    for stamp in range(100, 161, 15):
        kept.scrape(stamp, stamp * work)
    return read("pod-a", kept.series(), DURATIONS)


def reason(*readings: Reading, now: float = NOW) -> Hold | None:
    found = held(readings, now, DURATIONS)
    return found and found.reason


def test_sound_metrics_hold_nothing() -> None:
    assert held([sound(), sound()], NOW, DURATIONS) is None


def test_a_prometheus_that_does_not_answer_holds_with_what_it_said() -> None:
    found = held([sound()], NOW, DURATIONS, "timed out after 10 s")
    assert found is not None
    assert (found.reason, found.message.endswith("timed out after 10 s")) == ("Unreachable", True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"newest": None}, "NoSeries"),
        ({"missing": ("queueTime",)}, "NoSeries"),
        ({"scrapers": ("job",)}, "LabelsAmbiguous"),
        ({"newest": 99.9}, "Stale"),
        ({"newest": 100.1}, None),
        ({"newest": 40.0, "scrape": 50.0}, None),
        ({"newest": 34.0, "scrape": 50.0}, "Stale"),
        ({"not_a_number": 101.0}, "NotANumber"),
        ({"not_a_number": 99.0}, None),
        ({"scrape": 60.1}, "ScrapeTooSlow"),
        ({"scrape": 60.0}, None),
        ({"reset": 130.0}, "CountersReset"),
        ({"reset": NOW - 899}, "CountersReset"),
        ({"reset": NOW - 900}, None),
    ],
)
def test_one_flaw_of_one_pod_holds_the_server(
    change: dict[str, object], expected: str | None
) -> None:
    assert reason(sound(), replace(sound(), **change)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "expected"), [(0.021, "IdentityBroken"), (0.019, None)])
def test_steps_that_count_other_tokens_than_those_by_kind_hold(
    share: float, expected: str | None
) -> None:
    intervals = sound().intervals
    tokens = sum(one.generated_tokens + one.prompt_tokens for one in intervals)
    first = replace(intervals[0], step_tokens=(intervals[0].step_tokens or 0) - share * tokens)
    assert reason(replace(sound(), intervals=(first, *intervals[1:]))) == expected


def test_no_pods_are_no_series() -> None:
    assert reason() == "NoSeries"


def test_a_pod_without_samples_is_named() -> None:
    found = held([sound(), read("pod-b", [], DURATIONS)], NOW, DURATIONS)
    assert found is not None
    assert "pod-b: none at all" in found.message


def test_what_is_older_than_half_an_hour_is_no_traffic() -> None:
    stale = replace(sound(), newest=2000.0)
    assert reason(stale, now=2000.0) == "TooLittleTraffic"


def test_an_idle_server_has_too_little_traffic() -> None:
    assert reason(sound(work=0)) == "TooLittleTraffic"


def test_one_busy_pod_is_traffic() -> None:
    assert reason(sound(work=0), sound()) is None


@pytest.mark.parametrize(
    ("steps", "gaps", "enough"), [(20, 50, True), (19, 50, False), (20, 49, False)]
)
def test_an_interval_with_few_steps_or_tokens_is_not_learned_from(
    steps: float, gaps: float, enough: bool
) -> None:
    assert replace(sound().intervals[0], steps=steps, gaps=gaps).is_enough is enough


def test_a_clock_that_is_behind_prometheus_makes_nothing_stale() -> None:
    assert reason(sound(), now=100.0) is None


@pytest.mark.parametrize("hold", list(Hold))
def test_every_reason_has_a_sentence(hold: Hold) -> None:
    assert hold.sentence.endswith(".")
