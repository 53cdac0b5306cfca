"""What a tuner keeps of what was scraped."""

from support.intervals import intervals
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.seen import Seen


def seen(*pods: str, count: int = 20) -> Seen:
    found = Seen()
    found.learn([Reading(pod, tuple(intervals(count, pod))) for pod in pods], None, 0.0)
    return found


def test_windows_that_overlap_give_each_interval_once() -> None:
    found = seen("a")
    found.learn([Reading("a", tuple(intervals(25, "a")))], None, 0.0)
    assert len(found.of(["a"])) == 25


def test_a_pod_that_is_not_ready_for_a_while_is_remembered_and_one_long_gone_is_not() -> None:
    found = seen("a", "b")
    last = found.of(["b"])[-1].end
    found.thin(frozenset("a"), last - 1.0)
    assert found.of(["b"])
    found.thin(frozenset("a"), last)
    assert not found.of(["b"])
    assert found.of(["a"])


def test_what_is_kept_of_pods_that_serve_is_bounded() -> None:
    found = seen("a", count=901)
    found.thin(frozenset("a"), 0.0)
    assert len(found.of(["a"])) == 640


def recalled(*readings: Reading, since: float = 0.0) -> Reading:
    found = Seen()
    for reading in readings:
        [told] = found.recall([reading], since)
        found.learn([told], None, 0.0)
    return told


def test_a_short_window_is_told_with_the_intervals_of_those_before() -> None:
    told = recalled(
        Reading("a", tuple(intervals(20, "a"))), Reading("a", tuple(intervals(25, "a")[18:]))
    )
    assert [one.end for one in told.intervals] == [one.end for one in intervals(25, "a")]


def test_intervals_of_before_a_time_are_not_recalled() -> None:
    told = recalled(Reading("a", tuple(intervals(20, "a"))), Reading("a"), since=18 * 15.0)
    assert [one.end for one in told.intervals] == [19 * 15.0, 20 * 15.0]


def test_that_counters_began_anew_is_remembered_though_the_window_is_over() -> None:
    assert recalled(Reading("a", reset=100.0), Reading("a")).reset == 100.0
    assert recalled(Reading("a", reset=100.0), Reading("a", reset=130.0)).reset == 130.0


def test_the_usual_distance_of_scrapes_is_remembered_where_too_few_are_read() -> None:
    assert recalled(Reading("a", scrape=60.0), Reading("a")).scrape == 60.0
    assert recalled(Reading("a", scrape=60.0), Reading("a", scrape=15.0)).scrape == 15.0


def test_nothing_is_recalled_of_a_pod_that_was_not_read_meanwhile() -> None:
    found = Seen()
    for pod in ("a", "b"):
        found.recall([Reading(pod, reset=100.0)], 0.0)
    assert found.recall([Reading("a")], 0.0)[0].reset is None
