"""What holds of every load, forecast and choice, whatever was learned."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from support.intervals import interval
from support.served import CHAT, learned, llama
from vllm_operator.tuning.candidates import Range, Rules
from vllm_operator.tuning.choice import choose
from vllm_operator.tuning.diagnosis import Bound, Diagnosis, Row
from vllm_operator.tuning.forecast import Forecasts
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.load import Load, measured
from vllm_operator.tuning.proposals import Planned, Proposal

SERVER = llama()
LEARNED = learned(0.03)
shares = st.floats(0.0, 1.0)
seldom = st.sampled_from([False, False, False, False, True])


@st.composite
def loads(draw: st.DrawFn) -> Load:
    rate = draw(st.floats(0.1, 60.0))
    output = draw(st.floats(1.0, 2000.0))
    late_gaps, late_firsts = draw(shares), draw(shares)
    return replace(
        CHAT,
        rate=rate,
        rates=((1.0, rate),),
        prompt=draw(st.floats(1.0, 8000.0)),
        output=output,
        output_square=output * output * draw(st.floats(1.0, 3.0)),
        held=draw(st.floats(10.0, 10_000.0)),
        in_flight=draw(st.floats(0.1, 400.0)),
        population=draw(st.none() | st.floats(1.0, 400.0)),
        waiting=draw(shares),
        growth=draw(st.floats(0.0, 10.0)),
        latency=draw(st.floats(0.005, 0.2)),
        preemptions=draw(st.floats(0.0, 8.0)),
        late_gaps=Between(late_gaps, late_gaps),
        late_first_tokens=Between(late_firsts, late_firsts),
    )


settings_of_engines = st.builds(
    Knobs,
    st.sampled_from([1, 8, 64, 256, 1000]),
    st.sampled_from([1024, 2048, 8192]),
    st.sampled_from([0.5, 0.9]),
    st.none() | st.sampled_from([1, 32]),
)
objectives = st.builds(
    Objective,
    st.none() | st.floats(0.05, 10.0),
    st.none() | st.floats(0.005, 0.2),
    st.sampled_from([50.0, 95.0, 99.0]),
)
ranges = st.builds(
    Range, st.sampled_from([None, None, 4, 32]), st.sampled_from([None, None, 128, 2048])
)
rules_of_people = st.builds(
    Rules,
    active_seqs=st.booleans(),
    pinned_seqs=seldom,
    pinned_tokens=seldom,
    pinned_utilization=seldom,
    seqs=ranges,
    tokens=ranges,
    utilization=st.sampled_from([Range(), Range(max=0.92), Range(max=0.8)]),
)
bounds = st.sets(st.sampled_from([Bound.KV_CACHE, Bound.SEQUENCES, Bound.DECODE_LATENCY]))


def table(holding: set[Bound]) -> Diagnosis:
    rows = [Row(bound, bound in holding, "a", "a") for bound in Bound]
    return Diagnosis((*rows[:-1], replace(rows[-1], holds=True)))


def planned(knobs: Knobs) -> Planned:
    return Planned(400_000.0 * knobs.gpu_memory_utilization, 0.95)


def test_a_choice_keeps_to_bounds_pins_and_what_was_seen():
    proposed = []

    @settings(max_examples=100)
    @given(loads(), settings_of_engines, objectives, rules_of_people, bounds, st.floats(1, 300))
    def keeps(load, now, objective, rules, holding, batch):
        posterior = replace(LEARNED, batch=batch)
        asked = (SERVER, posterior, load, table(holding), now, planned)
        found = choose(*asked, objective=objective, rules=rules)
        assert found == choose(*asked, objective=objective, rules=rules)
        if not isinstance(found, Proposal):
            return
        proposed.append(found)
        then = found.knobs
        if then.cap != now.cap:
            assert not rules.pinned_seqs
            assert then.cap in rules.seqs
        if then.cap > now.cap:
            assert found.predicted.batch <= 4.2 * batch
        if then.max_num_batched_tokens != now.max_num_batched_tokens:
            assert not rules.pinned_tokens
            assert then.max_num_batched_tokens in rules.tokens
            assert then.max_num_batched_tokens <= 4 * now.max_num_batched_tokens
        if then.gpu_memory_utilization != now.gpu_memory_utilization:
            assert not rules.pinned_utilization
            assert Bound.KV_CACHE in holding
            assert now.gpu_memory_utilization < then.gpu_memory_utilization <= 0.95
            assert then.gpu_memory_utilization in rules.utilization
        assert then.max_num_batched_tokens >= then.max_num_seqs

    keeps()
    assert len(proposed) >= 10


@settings(max_examples=40)
@given(loads(), settings_of_engines, st.floats(1000, 1e6), st.floats(1.0, 3.0))
def test_more_memory_never_gives_fewer_tokens(load, knobs, kv_tokens, times):
    found = Forecasts(SERVER, LEARNED, load)
    some, more = found.at(knobs, kv_tokens), found.at(knobs, kv_tokens * times)
    assert more.tokens_per_second >= some.tokens_per_second * (1 - 1e-6)


@settings(max_examples=40)
@given(loads(), settings_of_engines, objectives)
def test_a_forecast_is_a_number_between_its_bounds(load, knobs, objective):
    found = Forecasts(SERVER, LEARNED, load, objective).at(knobs, 400_000.0)
    assert 0 <= found.low <= found.tokens_per_second * (1 + 1e-9)
    assert found.tokens_per_second <= found.high * (1 + 1e-9)
    for share, low in (
        (found.inter_token_share, found.inter_token_share_low),
        (found.time_to_first_share, found.time_to_first_share_low),
    ):
        if share is not None:
            assert -1e-9 <= low <= share + 1e-6 <= 1 + 2e-6


@given(st.permutations(range(24)), st.lists(st.integers(0, 40), min_size=24, max_size=24))
def test_a_load_does_not_depend_on_the_order_of_intervals(order, numbers):
    ones = [
        interval(place // 2, "ab"[place % 2], first_tokens=float(number + 1), waiting=number % 3)
        for place, number in enumerate(numbers)
    ]
    assert measured(ones) == measured(ones[place] for place in order)
