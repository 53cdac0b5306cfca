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
        ({"newest": 100.0}, None),
        ({"newest": 35.0, "scrape": 50.0}, None),
        ({"newest": 34.0, "scrape": 50.0}, "Stale"),
        ({"not_a_number": 100.0}, "NotANumber"),
        ({"not_a_number": 99.9}, None),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"missing": ("queueTime", "waiting")}, "none of queueTime, waiting."),
        ({"scrapers": ("job", "instance")}, "they differ in job, instance."),
        ({"newest": 90.0}, "70 s old, 60 s is the limit."),
        ({"newest": 20.0, "scrape": 50.0}, "140 s old, 125 s is the limit."),
        ({"not_a_number": 110.0}, "50 s ago."),
        ({"scrape": 90.0, "newest": 150.0}, "90 s apart, 60 s is the limit."),
        ({"reset": 130.0}, "30 s ago."),
    ],
)
def test_a_flaw_is_told_with_its_pod_and_its_numbers(
    change: dict[str, object], message: str
) -> None:
    found = held([sound(), replace(sound(), pod="pod-b", **change)], NOW, DURATIONS)  # type: ignore[arg-type]
    assert found is not None
    assert found.message == f"{found.reason.sentence} pod-b: {message}"


def test_too_little_traffic_is_told_of_all_pods_with_what_would_be_enough() -> None:
    found = held([sound(work=0)], NOW, DURATIONS)
    assert found is not None
    assert found.message.endswith(
        "All pods: no interval of the last 30 minutes has 20 steps and 50 tokens, nor "
        "have 8 together."
    )


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
