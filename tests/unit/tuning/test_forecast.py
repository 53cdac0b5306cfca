"""What a server would do with other knobs."""

import math
from dataclasses import replace

import pytest

from support.served import CHAT, clients, learned, llama, offered
from vllm_operator.engine.graphs import Graphs
from vllm_operator.tuning.chain import Chain
from vllm_operator.tuning.forecast import Forecasts, forecast
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.states import States, Steps


def knobs(seqs=256, tokens=8192, active=None) -> Knobs:
    return Knobs(seqs, tokens, 0.9, active)


class Servers:
    """A track of ``count`` servers that each end a request a second, or all together at most."""

    class states:  # noqa: N801
        class steps:  # noqa: N801
            later = 99.0

    def __init__(self, count: int, patience: float = math.inf) -> None:
        self.count, self.patience = count, patience
        self.ends, self.good, self.soon = [0.0], [1.0], [1.0]

    def exactly(self, number):
        return float(min(number, self.count)), 1.0, 1.0

    def upto(self, number):
        self.ends = [float(min(one, self.count)) for one in range(number + 1)]
        self.good = self.soon = [1.0] * (number + 1)

    def first_tokens_after(self, number, mean):
        return 1 - math.exp(-self.patience / mean)


def test_one_place_is_an_mm1_queue():
    found = Chain(Servers(1), 0.5).at(1)
    # rho = 1/2: 1 in the system, and half of all wait for 2 seconds.
    assert found.in_flight == pytest.approx(1.0)
    assert found.queueing == pytest.approx(1.0)
    assert found.requests == 0.5


def test_four_places_are_an_mm4_queue():
    found = Chain(Servers(4, patience=0.5), 3.0).at(4)
    # Erlang's C(4, 3) = 0.509434: 1.528 wait, for 0.5094 s in the mean.
    assert found.queueing == pytest.approx(0.509434, abs=1e-6)
    assert found.in_flight == pytest.approx(3 + 1.528302, abs=1e-6)
    assert found.first_share == pytest.approx(1 - 0.509434 * math.exp(-0.5), abs=1e-6)


def test_a_chain_counts_the_gaps_that_its_requests_make():
    found = Chain(Servers(4), 3.0).at(4)
    assert found.gaps == pytest.approx(3 * 99)
    assert found.kept == pytest.approx(found.gaps)


def test_more_than_can_end_is_saturated():
    found = Chain(Servers(4), 5.0).at(4)
    assert (found.requests, found.first_share) == (4.0, 0.0)
    assert math.isinf(found.in_flight)


def test_places_that_are_never_needed_change_nothing():
    chain = Chain(Servers(10_000), 20.0)
    assert chain.at(200) == chain.at(2000)
    assert chain.at(200).in_flight == pytest.approx(20.0)


@pytest.mark.parametrize("requests", [1, 7, 64, 300])
@pytest.mark.parametrize("tokens", [512, 8192])
def test_requests_in_an_engine_generate_or_await_their_first_token(requests, tokens):
    states = States(Steps(llama(), learned(), CHAT), tokens)
    state = states.at(requests)
    if state.started < 0.999 * states.most_started:
        assert state.decodes + state.preparing == pytest.approx(requests, rel=1e-3)
    assert state.decodes + state.started * 800 <= tokens * (1 + 1e-6)
    assert state.decodes == pytest.approx(249 * state.started)


def test_as_many_requests_as_one_likes_pass_only_the_tokens_of_full_steps():
    state = States(Steps(llama(), learned(), CHAT), 512).at(4000)
    # 1049 tokens a request.
    assert state.started == pytest.approx(512 / 1049, rel=0.001)
    full = llama().times.step(state.decodes, 980, 512 - state.decodes, 400)
    assert state.rate == pytest.approx(512 / 1049 / full, rel=0.02)


def test_between_both_kinds_of_steps_gaps_are_late_where_a_prompt_is():
    state = States(Steps(llama(), learned(), CHAT), 8192).at(28)
    between = (state.alone_seconds * 1.1 + state.alone_seconds) / 2 + 0.0005
    # 28 / 250 start in a step; those that are next to nothing are not late.
    expected = math.exp(-state.started * 27 / 28)
    assert state.gaps_within(between) == pytest.approx(expected, abs=0.03)
    assert state.gaps_within(10.0) == pytest.approx(1.0)
    assert state.gaps_within(0.5 * state.alone_seconds) == pytest.approx(0.0)


def test_a_prompt_that_is_longer_than_a_step_takes_several():
    steps = Steps(llama(), learned(), replace(CHAT, prompt=4000.0))
    assert States(steps, 512).at(8).pieces == pytest.approx(4000 / 504 + 0.5, rel=0.02)
    assert States(steps, 16384).at(8).pieces == pytest.approx(1.0, abs=0.02)


def test_a_server_that_keeps_up_gives_what_is_asked_for():
    found = forecast(llama(), learned(), CHAT, knobs())
    assert found.tokens_per_second == pytest.approx(9 * 250)
    assert (found.low, found.high) == (pytest.approx(2250), pytest.approx(2250))
    assert not found.saturated
    assert found.inter_token_share is None


def test_a_cap_below_what_is_needed_saturates_it():
    found = forecast(llama(), learned(), CHAT, knobs(8), objective=Objective(1.0, 0.05))
    assert found.saturated
    assert found.time_to_first_share == 0.0
    assert found.tokens_per_second == found.capacity < 2250
    assert found.low < found.tokens_per_second < found.high


def test_requests_in_flight_are_by_littles_law_those_that_wait_and_that_are_served():
    found = forecast(llama(), learned(), CHAT, knobs(32))
    assert found.queueing > 0.05
    stay = found.in_flight / 9 - found.queueing
    assert stay == pytest.approx(249 * found.latency, rel=0.1)


def test_a_hundred_clients_and_sixty_four_places_leave_thirty_six_waiting():
    found = forecast(llama(), learned(), clients(100), knobs(64))
    assert found.in_flight == 100
    assert found.queueing == pytest.approx(36 / (found.tokens_per_second / 250))


def test_clients_that_all_find_a_place_do_not_wait():
    found = forecast(llama(), learned(), clients(100), knobs(256), objective=Objective(1.0))
    assert found.queueing == 0.0
    assert found.time_to_first_share > 0.99


def test_an_active_cap_does_what_fewer_sequences_do_but_for_the_cuda_graphs_that_it_leaves():
    some = forecast(llama(), learned(), CHAT, knobs(256, active=24))
    fewer = forecast(llama(), learned(), CHAT, knobs(24))
    assert (some.places, some.batch) == (fewer.places, fewer.batch) == (24, fewer.batch)
    assert some.capacity == pytest.approx(fewer.capacity, rel=0.03)
    assert some.capacity > fewer.capacity


def test_the_kv_cache_holds_as_many_as_its_tokens():
    found = Forecasts(llama(), learned(), offered(100.0))
    assert found.held(98_500) == 100
    assert found.at(knobs(256), 98_500).places == 100
    assert found.at(knobs(256), 98_500).bound_by_cache
    assert not found.at(knobs(64), 98_500).bound_by_cache


def test_for_the_last_percent_the_kv_cache_is_kept_roomier():
    found = Forecasts(llama(), learned(), CHAT, Objective(1.0, percentile=99.0))
    # S + sqrt(S) = 100.
    assert found.held(98_000) == 90


def test_preemptions_are_none_where_the_cache_is_enough_and_those_seen_where_not():
    found = Forecasts(llama(), learned(), offered(100.0, preemptions=3.0))
    assert found.at(knobs(64), 98_500).preemptions == 0.0
    assert found.at(knobs(256), 98_500).preemptions == 3.0
    unseen = Forecasts(llama(), learned(), offered(100.0))
    assert unseen.at(knobs(256), 98_500).preemptions is None


def test_what_is_less_known_is_forecast_more_carefully():
    objective = Objective(1.0, 0.02)
    sure, unsure = (
        forecast(llama(), learned(deviation), offered(12.0), knobs(), objective=objective)
        for deviation in (0.01, 0.2)
    )
    assert sure.inter_token_share == unsure.inter_token_share
    assert unsure.inter_token_share_low < sure.inter_token_share_low <= sure.inter_token_share


def test_smaller_pieces_of_prompts_keep_gaps_short():
    # A step with 800 prompt tokens takes 33 ms, one with 484 takes 21 ms at most.
    objective = Objective(inter_token_latency=0.023)
    large, small = (
        forecast(llama(), learned(), CHAT, knobs(tokens=tokens), objective=objective)
        for tokens in (8192, 512)
    )
    assert large.inter_token_share < 0.955
    assert small.inter_token_share > 0.985


def test_a_forecast_follows_the_lateness_that_was_seen():
    objective = Objective(inter_token_latency=0.026)
    plain = Forecasts(llama(), learned(), CHAT, objective).at(knobs())
    late = 1.0 - plain.inter_token_share + 0.02
    seen = replace(CHAT, late_gaps=Between(late, late))
    found = Forecasts(llama(), learned(), seen, objective, now=knobs()).at(knobs())
    assert 1.0 - found.inter_token_share == pytest.approx(late, abs=0.005)


def test_a_forecast_within_what_buckets_tell_is_left_alone():
    objective = Objective(inter_token_latency=0.026)
    seen = replace(CHAT, late_gaps=Between(0.0, 0.4))
    plain = Forecasts(llama(), learned(), CHAT, objective).at(knobs())
    assert Forecasts(llama(), learned(), seen, objective, now=knobs()).at(knobs()) == plain


def test_a_pod_with_most_of_the_load_is_late_first():
    objective = Objective(time_to_first_token=0.5)
    even = forecast(llama(), learned(), offered(9.0), knobs(48), objective=objective)
    uneven = replace(CHAT, pods=2, rates=((0.5, 3.0), (0.5, 15.0)))
    found = forecast(llama(), learned(), uneven, knobs(48), objective=objective)
    assert even.time_to_first_share > 0.95
    # The larger pod does not keep up; it has 15 of 18 requests.
    assert found.time_to_first_share == pytest.approx(3 / 18, abs=0.02)


def test_the_replicas_that_are_needed_are_the_fewest_that_keep_the_objective():
    objective = Objective(1.0, 0.05)
    found = Forecasts(llama(), learned(), offered(30.0), objective)
    number = found.replicas(knobs(64))
    assert number is not None
    assert found.at(knobs(64), pods=number).keeps(objective)
    assert not found.at(knobs(64), pods=number - 1).keeps(objective)
    assert number >= 30.0 * 250 / found.at(knobs(64)).capacity


def test_an_objective_that_no_step_keeps_needs_more_replicas_than_anybody_has():
    found = Forecasts(llama(), learned(), CHAT, Objective(inter_token_latency=0.001))
    assert found.replicas(knobs()) is None


def test_prompts_that_differ_less_are_late_less_often():
    objective = Objective(time_to_first_token=2.0)
    load = replace(offered(2.5), prompt=4000.0)
    some, less = (
        forecast(
            llama(),
            learned(),
            replace(load, prompt_variation=variation),
            knobs(tokens=1024),
            objective=objective,
        ).time_to_first_share
        for variation in (1.0, 0.25)
    )
    assert 0.9 < some < less < 1.0


def test_a_cache_that_is_never_full_costs_nothing():
    # 100 fit and about 25 are there.
    some = forecast(llama(), learned(), CHAT, knobs(), 98_500)
    assert not some.bound_by_cache
    assert some.latency == forecast(llama(), learned(), CHAT, knobs()).latency


def test_steps_of_1024_tokens_are_surer_where_the_gpu_has_a_graph_of_as_many():
    unsure, surer = (
        forecast(one, learned(), CHAT, knobs(seqs=512, tokens=1024)).deviation
        for one in (llama(), replace(llama(), graphs=Graphs(1024)))
    )
    assert surer < 0.9 * unsure
