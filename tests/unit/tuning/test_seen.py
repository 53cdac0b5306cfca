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
