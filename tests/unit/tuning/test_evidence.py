"""Which intervals are kept to learn from."""

from unit.tuning.examples import interval
from vllm_operator.tuning.evidence import kept


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
