"""Steps with and without CUDA graphs, in what is learned and in what is forecast."""

import math
import random
from dataclasses import replace

import pytest

from support.served import CHAT, clients, experts, learned, llama
from vllm_operator.engine.graphs import Graphs
from vllm_operator.sizing.performance.server import Server
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.forecast import Forecasts
from vllm_operator.tuning.graphs import captured, with_graphs
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.points import Point, beyond, seconds
from vllm_operator.tuning.proposals import Planned
from vllm_operator.tuning.scene import Facts
from vllm_operator.tuning.states import States, Steps


def knobs(seqs: int = 256, tokens: int = 8192, active: int | None = None) -> Knobs:
    return Knobs(seqs, tokens, 0.9, active)


def eager(server: Server) -> Server:
    stages = tuple((replace(one, captured=0), count) for one, count in server.times.stages)
    return replace(server, times=replace(server.times, stages=stages))


def draws(starts: float, prompt: float, room: float, number: int = 20_000) -> list[float]:
    """Prompt tokens of steps that have any: Poisson many prompts, exponentially distributed."""
    draw = random.Random(7)
    found = []
    while len(found) < number:
        tokens, time = 0.0, draw.expovariate(starts)
        while time < 1.0:
            tokens += draw.expovariate(1.0 / prompt)
            time += draw.expovariate(starts)
        if tokens:
            found.append(min(tokens, room))
    return found


@pytest.mark.parametrize("seqs", [48, 64, 128])
def test_a_setting_has_the_cuda_graphs_that_its_own_sequences_ask_for(seqs: int) -> None:
    chat = clients(48, prompt=200.0)
    own = Forecasts(llama(seqs, 2048), learned(), chat).at(knobs(seqs, 2048))
    seen = Forecasts(llama(16, 2048), learned(), chat).at(knobs(seqs, 2048))
    # A step of 48 requests that no graph holds would take 13.5 ms, and one with a prompt more.
    assert own.latency < 0.0115
    assert seen.latency == pytest.approx(own.latency, rel=1e-9)


def test_steps_that_all_have_a_graph_are_the_faster_ones_of_a_mixture_of_experts() -> None:
    load = clients(160, prompt=300.0, output=200.0, output_square=57_000.0)
    forecasts = Forecasts(experts(), learned(batch=160.0), load)
    small, large = forecasts.at(knobs(tokens=512)), forecasts.at(knobs(tokens=1024))
    assert small.tokens_per_second > 1.25 * large.tokens_per_second


def test_an_eager_server_has_a_graph_with_no_setting() -> None:
    found = Forecasts(eager(experts()), learned(), clients(160))
    assert found.at(knobs(tokens=512)).latency > 0.07


@pytest.mark.parametrize("batch", [40.0, 160.0, 300.0])
@pytest.mark.parametrize("prompt", [100.0, 300.0, 800.0])
def test_the_mean_time_counts_the_steps_that_no_graph_holds(batch: float, prompt: float) -> None:
    server, starts = experts(), batch / 200
    met = [
        server.times.step(batch, 400, tokens, 150)
        for tokens in draws(starts, prompt, 8192 - batch, 4000)
    ]
    share = -math.expm1(-starts)
    alone = server.times.step(batch, 400, 0, 0)
    expected = (1.0 - share) * alone + share * sum(met) / len(met)
    at = Point(batch, starts * prompt, starts, 400, 150, 1.0)
    assert seconds(server, at) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("batch", [40, 160])
@pytest.mark.parametrize("tokens", [512, 1024, 8192])
def test_a_state_takes_what_a_point_of_its_batch_takes(batch: int, tokens: int) -> None:
    load = replace(CHAT, prompt=300.0, output=200.0)
    state = States(Steps(experts(tokens=tokens), learned(), load), tokens).at(batch)
    at = Point(state.decodes, 300.0 * state.started, state.started, 300 + 225, 150, 1.0)
    assert state.step == pytest.approx(seconds(experts(tokens=tokens), at), rel=0.05)


@pytest.mark.parametrize("held", [0.0, 100.0, 350.0, 900.0])
@pytest.mark.parametrize("room", [500.0, 8192.0])
def test_so_many_steps_lie_beyond_a_graph_and_below_where_it_is_of_no_use(
    held: float, room: float
) -> None:
    met = [one for one in draws(0.8, 300.0, room) if held < one < 2000.0]
    share, tokens = beyond(held, 2000.0, room, 0.8, 300.0, 1.0, 1.0)
    assert share == pytest.approx(len(met) / 20_000, abs=0.02)
    if met:
        assert tokens == pytest.approx(sum(met) / len(met), rel=0.05)


def test_no_step_lies_beyond_a_graph_that_is_of_no_use() -> None:
    assert beyond(400.0, 300.0, 8192.0, 0.8, 300.0, 1.0, 1.0) == (0.0, 0.0)


def test_pieces_that_fill_a_step_lie_beyond_its_graph() -> None:
    share, tokens = beyond(400.0, 4000.0, 900.0, 0.01, 4500.0, 0.0, 5.0)
    assert share == pytest.approx(1.0, abs=0.01)
    assert tokens == pytest.approx(900.0, rel=0.01)


def test_admission_alone_leaves_the_graphs_of_a_server() -> None:
    facts = Facts(
        knobs(),
        server_at=lambda one: llama(one.cap, one.max_num_batched_tokens),
        plan_at=lambda one: Planned(None, 0.9),
        rules=Rules(),
    )
    assert captured(facts.server(knobs(256, active=24))) == 512
    assert facts.server(knobs(256, active=24)).limits.sequences == 24
    assert captured(facts.server(knobs(24))) == 48


@pytest.mark.parametrize("seqs", [16, 64, 256])
def test_where_the_command_states_the_largest_graph_a_forecast_has_it_whatever_the_sequences(
    seqs: int,
) -> None:
    load = clients(12, prompt=200.0)
    stated = replace(llama(256, 2048), graphs=Graphs(512, stated=True))
    own = Forecasts(stated, learned(), load).at(knobs(seqs, 2048))
    most = Forecasts(llama(256, 2048), learned(), load).at(knobs(256, 2048))
    assert own.latency == pytest.approx(most.latency, rel=0.01)


def test_graphs_are_given_to_no_eager_server() -> None:
    assert captured(with_graphs(eager(llama()), 64)) == 0
    assert captured(with_graphs(llama(), 64)) == 64
