"""A load of several rates is the sum of its parts."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from support.served import CHAT, clients, learned, llama, offered
from vllm_operator.tuning.forecast import Forecast, forecast
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.load import Load

KNOBS = Knobs(64, 8192, 0.9, None)
ASKED = Objective(time_to_first_token=0.5, inter_token_latency=0.02)


def at(load: Load) -> Forecast:
    return forecast(llama(), learned(), load, KNOBS, objective=ASKED)


def numbers(found: Forecast) -> dict[str, float]:
    told = {one.name: getattr(found, one.name) for one in fields(found)}
    return {name: one for name, one in told.items() if isinstance(one, float)}


def test_two_equal_halves_are_the_whole() -> None:
    whole = offered(9.0)
    halves = replace(whole, rates=((0.5, 9.0), (0.5, 9.0)))
    assert numbers(at(halves)) == pytest.approx(numbers(at(whole)))
    assert len(numbers(at(whole))) > 8


def test_a_quarter_and_three_quarters_are_the_whole_too() -> None:
    whole = offered(9.0)
    parts = replace(whole, rates=((0.25, 9.0), (0.75, 9.0)))
    assert numbers(at(parts)) == pytest.approx(numbers(at(whole)))


def test_an_uneven_load_lies_between_its_parts_and_its_shares_nearer_to_the_busier() -> None:
    few, many = at(offered(3.0)), at(offered(15.0))
    both = at(replace(CHAT, rate=9.0, rates=((0.5, 3.0), (0.5, 15.0))))
    assert both.tokens_per_second == pytest.approx(
        (few.tokens_per_second + many.tokens_per_second) / 2, rel=1e-6
    )
    assert both.in_flight == pytest.approx((few.in_flight + many.in_flight) / 2, rel=1e-6)
    # Five of six requests come in the busier half.
    assert both.queueing == pytest.approx((few.queueing + 5 * many.queueing) / 6, rel=1e-6)
    assert both.time_to_first_share == pytest.approx(
        ((few.time_to_first_share or 0) + 5 * (many.time_to_first_share or 0)) / 6, rel=1e-6
    )


def test_more_clients_than_places_wait_and_fewer_do_not() -> None:
    assert at(clients(64)).queueing == 0.0
    assert at(clients(65)).queueing > 0.0
