"""What is enough to propose another setting, and what is kept to know it."""

from dataclasses import replace
from functools import lru_cache

import pytest

from unit.tuning.examples import hour, interval, load, shipped, wave
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.tuning.curve import Posterior, fit
from vllm_operator.tuning.evidence import Lack, evidence, kept


@lru_cache
def known() -> Posterior:
    found = fit(hour(Multipliers(), wave), shipped())
    assert found is not None
    return found


def lacks(at: float = 32.0, finished: float = 300.0, **changes) -> list[Lack]:
    found = evidence(replace(known(), **changes), shipped(), load(at), finished)
    return [lack for lack, _ in found.lacks]


def test_an_hour_of_a_load_that_varies_is_enough_for_twice_its_batch() -> None:
    assert lacks() == []
    assert evidence(known(), shipped(), load(32), 300.0).enough


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"intervals": 59}, Lack.INTERVALS),
        ({"blocks": 2}, Lack.BLOCKS),
        ({"finished": 299.0}, Lack.REQUESTS),
        ({"drift": -0.11}, Lack.DRIFT),
        ({"level_deviation": 0.21}, Lack.UNCERTAIN),
    ],
)
def test_each_rule_says_what_is_missing(changes, lack) -> None:
    assert lacks(**changes) == [lack]


def test_a_batch_is_trusted_up_to_four_times_what_was_seen() -> None:
    assert lacks(at=3.9 * known().batch) == []
    assert lacks(at=4.1 * known().batch) == [Lack.TRUST]
    found = evidence(known(), shipped(), load(4.1 * known().batch), 300.0)
    assert found.largest_batch == pytest.approx(4 * known().batch)
    assert found.lacks[0][1] == "a batch of 86 is more than 4 times the 21 that were seen"


@pytest.mark.parametrize("changes", [{"correlation": 0.31}, {"level_deviation": 0.13}])
def test_only_up_to_twice_where_the_curve_is_doubtful(changes) -> None:
    assert lacks(at=1.9 * known().batch, **changes) == []
    assert lacks(at=2.1 * known().batch, **changes) == [Lack.TRUST]


def test_a_load_that_never_varies_leaves_the_slope_to_the_prior() -> None:
    assert evidence(replace(known(), excitation=0.09), shipped(), load(32), 300.0).by_prior
    assert not evidence(known(), shipped(), load(32), 300.0).by_prior


def test_of_one_load_the_latest_640_intervals_are_kept() -> None:
    ones = [interval(15.0 * n, 16.0, 0.01) for n in range(1, 1001)]
    assert kept(ones) == tuple(ones[-640:])


def test_a_rare_load_is_kept_whole_while_a_usual_one_is_thinned() -> None:
    # An hour at 64 in the morning, and five at 16 since.
    noon = [interval(15.0 * n, 64.0, 0.02) for n in range(1, 241)]
    later = [interval(15.0 * n, 16.0, 0.01) for n in range(241, 1441)]
    found = kept(noon + later)
    assert len(found) == 640
    assert found[:240] == tuple(noon)
    assert found[240:] == tuple(later[-400:])


def test_the_order_of_intervals_says_nothing_of_which_are_kept() -> None:
    ones = [interval(15.0 * n, 2.0 ** (n % 9), 0.01) for n in range(1, 1001)]
    assert kept(reversed(ones)) == kept(ones)


def test_with_all_cells_full_each_has_forty() -> None:
    # 1.25 to 900 by 16 steps of ln 1024 / 16.
    batches = [1.25 * 1024 ** (cell / 16) for cell in range(16)]
    ones = [interval(15.0 * n, batches[n % 16], 0.01) for n in range(1600)]
    found = kept(ones)
    assert len(found) == 640
    assert found == tuple(ones[-640:])


def test_nothing_is_kept_of_nothing() -> None:
    assert kept([interval(15.0, 16.0, 0.01, gaps=0.0)]) == ()
