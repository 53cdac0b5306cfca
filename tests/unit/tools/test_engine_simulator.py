"""vLLM's scheduling rules and metrics in the simulator, on examples that fit on paper.

Every step takes a second, a block holds 16 tokens, and a row of samples is the state just before
the step that ends then.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from enginesimulator import state as at
from enginesimulator.engine import Engine
from enginesimulator.metrics import Buckets, exposition, length_edges, scraped
from enginesimulator.seconds import whole
from enginesimulator.steps import Disturbance, Hardware, Truth, captured_sizes, step_table
from support.simulated import STAGE, TIMES, count, engine, hardware, observed, send


def row(one: Engine, second: float) -> list[float]:
    return next(row for row in one.rows if row[0] == second)


def running(one: Engine, second: float) -> float:
    return row(one, second)[1]


def value(one: Engine, name: str, second: float, **labels: str) -> float:
    for series in scraped(one.rows, one.buckets, {}, 0.0):
        if series.name == name and labels.items() <= series.labels.items():
            return dict(series.samples)[second]
    raise AssertionError(name)


def test_a_prompt_and_then_a_token_a_step() -> None:
    one = engine()
    send(one, (0.0, 10, 3))
    one.advance(10.0)
    assert count(one, at.STEPS) == 3
    assert observed(one, at.FIRST) == (1.0, 1.0)
    assert observed(one, at.GAP) == (2.0, 2.0)
    assert observed(one, at.LATENCY) == (1.0, 3.0)


def test_a_request_waits_for_the_end_of_the_step_in_which_it_arrives() -> None:
    one = engine()
    send(one, (0.0, 10, 5), (0.5, 10, 1))
    one.advance(10.0)
    assert observed(one, at.QUEUE) == (2.0, 0.5)


def test_decodes_come_before_new_prompts_which_get_what_is_left_of_a_step() -> None:
    one = engine(tokens=20)
    send(one, (0.0, 10, 9), (0.5, 30, 1))
    one.advance(20.0)
    # 19 tokens of the second prompt beside a decode, then the other 11.
    assert count(one, at.LARGEST_STEP) == 20
    assert observed(one, at.FIRST) == (2.0, 1.0 + 2.5)


def test_a_step_holds_the_end_of_one_prompt_and_the_start_of_the_next() -> None:
    one = engine(tokens=20)
    send(one, (0.0, 30, 1), (0.0, 30, 1))
    one.advance(20.0)
    # 20; 10 and 10; 20: three steps for sixty tokens.
    assert count(one, at.STEPS) == 3
    assert observed(one, at.FIRST) == (2.0, 2.0 + 3.0)


def test_no_more_run_than_max_num_seqs() -> None:
    one = engine(seqs=2)
    send(one, (0.0, 10, 4), (0.0, 10, 4), (0.0, 10, 4))
    one.advance(20.0)
    assert count(one, at.MOST_RUNNING) == 2
    assert observed(one, at.QUEUE) == (3.0, 4.0)


def test_max_num_active_seqs_caps_admission_below_max_num_seqs() -> None:
    one = engine(seqs=8, limits={"max_num_active_seqs": 1})
    send(one, (0.0, 10, 4), (0.0, 10, 4))
    one.advance(20.0)
    assert count(one, at.MOST_RUNNING) == 1


def test_a_request_is_admitted_only_where_its_whole_prompt_fits() -> None:
    one = engine(blocks=4, tokens=16)
    send(one, (0.0, 40, 2), (0.0, 32, 1))
    one.advance(20.0)
    # The first needs three blocks; the second's two never are free beside it.
    assert count(one, at.MOST_RUNNING) == 1
    assert count(one, at.PREEMPTIONS_DONE) == 0


def test_the_first_that_does_not_fit_ends_admission() -> None:
    one = engine(blocks=4)
    send(one, (0.0, 33, 3), (0.0, 33, 1), (0.0, 5, 1))
    one.advance(20.0)
    # The small one would fit beside the first, and waits behind the second.
    assert observed(one, at.QUEUE) == (3.0, 3.0 + 3.0)


def test_the_watermark_stays_free_while_something_runs() -> None:
    free = engine(blocks=9, limits={"watermark": 0.5})
    send(free, (0.0, 33, 3), (0.0, 33, 1))
    free.advance(20.0)
    # 3 of 9 blocks are taken, 3 more would leave fewer than the 5 that stay free.
    assert count(free, at.MOST_RUNNING) == 1


def test_without_a_block_for_all_that_run_the_last_admitted_is_preempted() -> None:
    one = engine(blocks=3)
    send(one, (0.0, 16, 20), (0.0, 16, 20))
    one.advance(60.0)
    # Both fill a block at once, and one more is free.
    assert count(one, at.PREEMPTIONS_DONE) == 1
    assert [running(one, second) for second in (1.0, 2.0, 3.0)] == [0.0, 2.0, 1.0]


def test_a_preempted_request_goes_to_the_head_of_the_queue() -> None:
    one = engine(blocks=3)
    send(one, (0.0, 16, 18), (0.0, 16, 18), (5.5, 30, 1))
    one.advance(80.0)
    queued = observed(one, at.QUEUE)
    # The third came before the second was resumed, and is admitted after it.
    assert queued[1] > 18.0 - 5.5


def test_a_preempted_request_computes_its_prompt_and_what_it_had_generated_again() -> None:
    one = engine(blocks=3, limits={"prefix_caching": False})
    send(one, (0.0, 16, 18), (0.0, 16, 18))
    one.advance(80.0)
    assert count(one, at.DISCARDED) == 16
    assert count(one, at.GENERATED) == 36
    assert observed(one, at.PREEMPTION) == (2.0, 1.0)


def test_a_preemption_is_one_long_time_between_tokens_and_not_time_in_the_queue() -> None:
    one = engine(blocks=3)
    send(one, (0.0, 16, 18), (0.0, 16, 18))
    one.advance(80.0)
    assert observed(one, at.QUEUE) == (2.0, 0.0)
    gaps, seconds = observed(one, at.GAP)
    assert gaps == 34.0
    assert seconds > 34.0 + 10.0


def test_a_preemption_is_counted_with_the_next_output_of_the_request() -> None:
    one = engine(blocks=3)
    send(one, (0.0, 16, 18), (0.0, 16, 18))
    one.advance(5.0)
    assert (count(one, at.PREEMPTIONS_DONE), count(one, at.PREEMPTIONS)) == (1, 0)
    one.advance(80.0)
    assert (count(one, at.PREEMPTIONS_DONE), count(one, at.PREEMPTIONS)) == (1, 1)


def test_cached_blocks_that_nobody_uses_count_as_free() -> None:
    one = engine(blocks=10, shared_prefix=32)
    send(one, (0.0, 40, 2))
    one.advance(10.0)
    assert row(one, 2.0)[3] == pytest.approx(0.3)
    assert row(one, 5.0)[3] == 0.0


def test_the_shared_prefix_is_computed_once() -> None:
    one = engine(shared_prefix=32)
    send(one, (0.0, 40, 2), (5.0, 50, 2))
    one.advance(20.0)
    assert (count(one, at.PROMPT_TOKENS), count(one, at.CACHED_TOKENS)) == (40 + 18, 32)
    assert (count(one, at.QUERIES), count(one, at.HITS)) == (90, 32)


@pytest.mark.parametrize(("output", "found"), [(50, 32), (118, 0)])
def test_the_shared_prefix_is_forgotten_where_others_took_its_blocks(
    output: int, found: int
) -> None:
    one = engine(blocks=8, shared_prefix=32)
    send(one, (0.0, 40, 1), (5.0, 10, output), (200.0, 50, 1))
    one.advance(300.0)
    # Six blocks are taken before the two of the prefix.
    assert count(one, at.CACHED_TOKENS) == found


def test_a_prompt_is_counted_whole_in_the_step_of_its_first_token() -> None:
    one = engine(tokens=10)
    send(one, (0.0, 30, 1))
    one.advance(10.0)
    assert value(one, "vllm:prompt_tokens_total", 2.0) == 0.0
    assert value(one, "vllm:prompt_tokens_total", 4.0) == 30.0


def test_a_step_without_outputs_is_not_counted() -> None:
    one = engine(tokens=10)
    send(one, (0.0, 30, 2))
    one.advance(10.0)
    assert count(one, at.STEPS) == 4
    assert observed(one, at.STEP) == (2.0, 31.0 + 1.0)


def test_lengths_and_times_of_a_request_are_observed_when_it_ends() -> None:
    one = engine()
    send(one, (0.0, 10, 5))
    one.advance(10.0)
    for name in (
        "request_prompt_tokens",
        "request_queue_time_seconds",
        "e2e_request_latency_seconds",
    ):
        assert value(one, f"vllm:{name}_count", 4.0) == 0.0
        assert value(one, f"vllm:{name}_count", 6.0) == 1.0
    assert value(one, "vllm:time_to_first_token_seconds_count", 3.0) == 1.0


def test_the_sum_of_the_times_between_tokens_is_the_time_that_requests_decode() -> None:
    one = engine()
    send(one, (0.0, 10, 11), (0.0, 10, 6))
    one.advance(20.0)
    assert observed(one, at.GAP)[1] == 10.0 + 5.0


def test_the_buckets_are_vllms_and_an_objective_gets_its_own() -> None:
    buckets = Buckets.of(4096, gaps=(0.02, 0.04))
    assert buckets.edges[at.GAP][:4] == (0.01, 0.02, 0.025, 0.04)
    assert len(buckets.edges[at.FIRST]) == 22
    assert buckets.edges[at.STEP][:3] == (1.0, 8.0, 16.0)
    assert length_edges(250) == (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


def test_a_value_on_an_edge_belongs_below_it() -> None:
    one = engine()
    send(one, (0.0, 10, 3))
    one.advance(5.0)
    name = "vllm:inter_token_latency_seconds_bucket"
    assert value(one, name, 5.0, le="1.0") == 2.0
    assert value(one, name, 5.0, le="0.75") == 0.0
    assert value(one, name, 5.0, le="+Inf") == 2.0


def test_what_is_slow_is_counted_exactly() -> None:
    one = engine(gap_objective=0.99, first_objective=1.2)
    send(one, (0.0, 10, 3), (0.5, 10, 2))
    one.advance(5.0)
    assert count(one, at.SLOW_GAPS) == 3
    assert count(one, at.SLOW_FIRST) == 1


def test_text_is_what_prometheus_reads() -> None:
    one = engine()
    send(one, (0.0, 10, 3))
    one.advance(5.0)
    text = exposition(one.rows[-1], one.buckets, {"model_name": "m"})
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 3\n' in text
    source = 'engine="0",model_name="m",source="local_compute"'
    assert f"vllm:prompt_tokens_by_source_total{{{source}}} 10\n" in text


def test_a_step_is_padded_to_the_next_captured_size_and_slower_above_the_largest() -> None:
    slow = hardware(token_seconds=0.001, fixed_seconds=0.0, launch_seconds=0.5).graphs
    table = step_table(Hardware(slow, slow), Truth(), 64, 2048)
    base, padded = table.base, table.padded
    assert [base[padded[size]] for size in (3, 8, 9)] == pytest.approx([0.004, 0.008, 0.016])
    assert len(padded) == 2 * 64 + 1
    assert [whole(table, size, 1, 0.0) for size in (128, 129, 600)] == pytest.approx(
        [0.128, 0.5, 0.6]
    )


def test_an_eager_step_is_no_faster_than_its_launches() -> None:
    graphs = hardware(token_seconds=0.001, fixed_seconds=0.0).graphs
    eager = hardware(token_seconds=0.001, fixed_seconds=0.0, launch_seconds=0.5).graphs
    table = step_table(Hardware(graphs, eager, largest_graph=0), Truth(), 64, 2048)
    assert [whole(table, size, 1, 0.25) for size in (1, 600)] == pytest.approx([0.5, 0.85])


def test_the_api_server_sends_so_many_tokens_in_a_step_at_most() -> None:
    times = replace(hardware(fixed_seconds=0.1).graphs, answer_seconds=0.01)
    table = step_table(Hardware(times, times, largest_graph=0), Truth(), 64, 2048)
    assert [whole(table, size, size, 0.0) for size in (1, 50)] == pytest.approx([0.1, 0.5])


def test_captured_sizes_are_vllms() -> None:
    assert captured_sizes(4, 2048) == [1, 2, 4, 8]
    assert captured_sizes(100, 2048)[-3:] == [184, 192, 200][-3:]
    assert 100 in captured_sizes(100, 2048)
    assert captured_sizes(1024, 8192)[-2:] == [496, 512]


def test_factors_multiply_the_time_of_their_part() -> None:
    parts = {
        "fixed_seconds": 1.0,
        "token_seconds": 0.0,
        "linears": ((0.0, 10.0, 0.0),),
        "attention": ((0.0, 0.0, 100.0, None, 0.0),),
    }
    one = engine(
        steps=hardware(**parts), truth=Truth(overhead=2.0, bandwidth=3.0, cache_bandwidth=0.5)
    )
    send(one, (0.0, 9, 2))
    one.advance(2000.0)
    # The second step attends to ten tokens.
    assert observed(one, at.GAP) == (1.0, 2.0 + 30.0 + 10 * 50.0)


def test_steps_of_more_sequences_than_the_bend_are_slower() -> None:
    one = engine(truth=Truth(bend_batch=1, bend_factor=1.5))
    send(one, (0.0, 10, 3), (0.0, 10, 2))
    one.advance(20.0)
    assert observed(one, at.GAP) == (3.0, 1.5 + 1.5 + 1.0)


def test_a_disturbance_slows_the_steps_that_begin_in_it() -> None:
    slow = Truth(disturbances=(Disturbance(2.0, 6.0, 2.0, None),))
    one = engine(truth=slow)
    send(one, (0.0, 10, 6))
    one.advance(20.0)
    assert observed(one, at.LATENCY) == (1.0, 1.0 + 1.0 + 2.0 + 2.0 + 1.0 + 1.0)


def test_a_disturbance_of_another_pod_is_not_felt() -> None:
    slow = Truth(disturbances=(Disturbance(0.0, 60.0, 2.0, 1),))
    one = engine(truth=slow, pod=0)
    send(one, (0.0, 10, 6))
    one.advance(20.0)
    assert observed(one, at.LATENCY) == (1.0, 6.0)


def test_clients_send_again_when_they_are_answered_until_they_stop() -> None:
    one = engine()
    one.serve_clients(2, 10.0, [(10, 3)], 0.0)
    one.advance(30.0)
    # Three steps a request: answered at 3, 6, 9 and 12 seconds, the last sent at 9.
    assert count(one, at.FINISHED) == 8


def test_a_client_that_leaves_sends_no_more_once_it_is_answered() -> None:
    one = engine()
    one.serve_clients(2, 100.0, [(10, 3)], 0.0)
    one.advance(4.0)
    one.more_clients(-1, 4.0)
    one.advance(8.0)
    assert one.running + one.waiting == 1


def test_the_api_server_takes_one_request_after_the_other() -> None:
    one = engine(steps=Hardware(TIMES, TIMES, request_seconds=0.25, largest_graph=0))
    send(one, (0.0, 10, 1), (0.0, 10, 1))
    one.advance(20.0)
    assert observed(one, at.FIRST) == (2.0, 1.25 + 2.25)


MIXED = {
    "fixed_seconds": 0.004,
    "token_seconds": 1e-5,
    "attention": ((1e-9, 1e-9, 6e-8, None, 0.0), (1e-9, 1e-9, 6e-8, 512, 0.0)),
}


def busy(seed: str, *, blocks: int = 300, **options: object) -> Engine:
    one = engine(
        64,
        512,
        blocks,
        steps=hardware(**MIXED),
        truth=Truth(jitter=0.05, bend_batch=20, bend_factor=1.3),
        every=5.0,
        gap_objective=0.01,
        seed=seed,
        **options,
    )
    draw = random.Random(1)
    time, requests = 0.0, []
    for _ in range(200):
        time += draw.expovariate(12.0)
        requests.append((time, draw.randint(1, 900), draw.randint(1, 300)))
    send(one, *requests)
    one.advance(400.0)
    return one


def test_taking_many_steps_at_once_changes_nothing() -> None:
    steps, skips = busy("a", longest_skip=1), busy("a")
    for which in range(at.INTS):
        if which not in (at.CAP_BOUND, at.CACHE_BOUND):
            assert count(skips, which) == count(steps, which), which
    assert count(skips, at.PREEMPTIONS_DONE) > 10
    for which in range(at.HISTOGRAMS):
        assert observed(skips, which) == pytest.approx(observed(steps, which), rel=1e-9)


def test_the_same_seed_gives_the_same_samples_and_another_others() -> None:
    assert busy("a").rows == busy("a").rows
    assert busy("a").rows != busy("b").rows


def test_every_request_ends_once_and_the_counters_add_up() -> None:
    draw = random.Random(1)
    sizes = [
        (draw.expovariate(12.0), draw.randint(1, 900), draw.randint(1, 300)) for _ in range(200)
    ]
    one = busy("a")
    prompts, outputs = sum(size[1] for size in sizes), sum(size[2] for size in sizes)
    assert count(one, at.FINISHED) == 200
    assert count(one, at.GENERATED) == outputs
    assert count(one, at.PROMPT_TOKENS) + count(one, at.CACHED_TOKENS) == prompts
    assert observed(one, at.GAP)[0] == outputs - 200
    assert observed(one, at.STEP)[1] == outputs + prompts
    assert observed(one, at.PROMPT) == (200.0, prompts)
    assert observed(one, at.OUTPUT) == (200.0, outputs)
    assert count(one, at.FREE) == 300
    assert (one.running, one.waiting, count(one, at.CONTEXT)) == (0, 0, 0)


def test_stages_that_are_not_simulated_are_refused() -> None:
    two = Hardware(TIMES.__class__(((STAGE, 2),), 0.0, True, 1), TIMES, largest_graph=0)
    with pytest.raises(ValueError, match="one pipeline stage"):
        engine(steps=two)
