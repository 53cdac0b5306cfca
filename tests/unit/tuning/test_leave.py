"""Whether a trial may begin, and when a window is open."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.leave import Circumstances, leave
from vllm_operator.tuning.standing import Leave, Mode
from vllm_operator.tuning.window import NEVER, Window

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NOW = at("2026-03-10 03:00")
NIGHTS = Window.read("0 2 * * *", 240, BERLIN)
DAYS = Window.read("0 8 * * *", 60, BERLIN)
MAY = Circumstances(
    mode=Mode.AUTO,
    describable=True,
    inconclusive=1,
    scalings=[NOW - 7200 * n for n in range(12)],
    settled_since=NOW - 900,
    starts=1,
    starts_allowed=2,
    window=NIGHTS,
    permit=True,
)
FORBIDDEN = [
    ({"mode": Mode.RECOMMEND}, Leave.RECOMMEND_ONLY),
    ({"mode": Mode.DISABLED}, Leave.RECOMMEND_ONLY),
    ({"describable": False}, Leave.RECOMMEND_ONLY),
    ({"inconclusive": 2}, Leave.INCONCLUSIVE),
    ({"scalings": [NOW - 60 * n for n in range(13)]}, Leave.SCALED_TOO_OFTEN),
    ({"starts": 2}, Leave.BUDGET_SPENT),
    ({"starts": 0, "starts_allowed": 0}, Leave.BUDGET_SPENT),
    ({"window": DAYS}, Leave.OUTSIDE_WINDOW),
    ({"settled_since": None}, Leave.UNSETTLED),
    ({"settled_since": NOW - 899}, Leave.UNSETTLED),
    ({"permit": False}, Leave.OTHERS_FIRST),
]


def test_a_trial_may_begin_where_nothing_forbids_it() -> None:
    assert leave(MAY, NOW) is Leave.GRANTED


@pytest.mark.parametrize(("what", "why"), FORBIDDEN)
def test_each_thing_alone_forbids_it(what: dict[str, object], why: Leave) -> None:
    assert leave(replace(MAY, **what), NOW) is why  # type: ignore[arg-type]


def test_two_things_forbid_it_too_and_the_one_that_lasts_longer_is_told() -> None:
    order = [why for _, why in FORBIDDEN]
    for (first, one), (second, other) in product(FORBIDDEN, repeat=2):
        if not first.keys() & second.keys():
            both = leave(replace(MAY, **first, **second), NOW)  # type: ignore[arg-type]
            assert order.index(both) == min(order.index(one), order.index(other))


def test_changes_of_replicas_count_for_a_day() -> None:
    old = replace(MAY, scalings=[NOW - 86_400 - n for n in range(50)])
    assert leave(old, NOW) is Leave.GRANTED


def test_how_long_replicas_must_be_settled_is_a_duration() -> None:
    assert leave(replace(MAY, settled_since=NOW - 60), NOW, Durations(1.0)) is Leave.GRANTED


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-03-10 01:59:59", False),
        ("2026-03-10 02:00:00", True),
        ("2026-03-10 05:59:59", True),
        ("2026-03-10 06:00:00", False),
    ],
)
def test_a_window_is_open_from_its_first_second_for_its_length(when: str, is_open: bool) -> None:
    assert NIGHTS.is_open(at(when)) is is_open


def test_a_window_is_told_in_its_own_zone() -> None:
    assert NIGHTS.is_open(at("2026-03-10 01:30", "UTC"))
    assert not Window.read("0 2 * * *", 240).is_open(at("2026-03-10 01:30", "UTC"))


def test_a_window_may_last_over_midnight_and_over_days() -> None:
    weekend = Window.read("0 22 * * 5", 3 * 24 * 60, BERLIN)
    assert weekend.is_open(at("2026-03-15 23:00"))
    assert not weekend.is_open(at("2026-03-16 22:00"))


def test_a_window_in_the_hour_that_summer_time_skips_opens_when_it_is_over() -> None:
    early = Window.read("30 2 * * *", 60, BERLIN)
    assert not early.is_open(at("2026-03-29 01:59"))
    assert early.is_open(at("2026-03-29 03:10"))


def test_a_window_in_the_hour_that_winter_time_repeats_opens_once_and_lasts_no_longer() -> None:
    early = Window.read("30 2 * * *", 60, BERLIN)
    midnight = at("2026-10-25 00:00", "UTC")
    is_open = [minute for minute in range(-60, 240) if early.is_open(midnight + 60 * minute)]
    assert is_open == list(range(30, 90))


@pytest.mark.parametrize(
    ("schedule", "zone", "said"),
    [
        ("0 2 * *", None, "five fields"),
        ("0 0 2 * * *", None, "five fields"),
        ("61 2 * * *", None, "Bad minute"),
        ("0 2 30 2 *", None, "Bad day-of-month; write it as in 0 2"),
        ("*/0 2 * * *", None, "Bad minute"),
        ("0 2 * * *", "Europe/Berlyn", "no such zone; write Europe/Berlin"),
        ("0 2 * * *", "../etc/passwd", "no such zone"),
    ],
)
def test_a_window_that_cannot_be_read_says_which_part(
    schedule: str, zone: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Window.read(schedule, 60, zone)


def test_a_schedule_that_cannot_be_read_opens_never() -> None:
    new_year = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert not any(NEVER.is_open(new_year + second) for second in (-1, 0, 1, 60))
