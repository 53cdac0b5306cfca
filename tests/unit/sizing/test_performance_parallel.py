"""Pipelines, data-parallel ranks, experts on whole ranks, and what lies between nodes."""

from dataclasses import replace

import pytest

from vllm_operator.engine.versions import NEWEST_KNOWN, Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.coefficients import coefficients
from vllm_operator.sizing.performance.estimate import estimate
from vllm_operator.sizing.performance.links import Links
from vllm_operator.sizing.performance.step import ExpertTimes, times_of
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.sizing.split.parallelism import Parallelism

DENSE, EXPERTS = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B"
H100 = gpus.find("NVIDIA-H100-80GB-HBM3")
assert H100 is not None
FOUND = coefficients(NEWEST_KNOWN, "hopper", "nvlink")


def model(name=DENSE):
    facts = catalogue.find(name)
    assert facts is not None
    return architecture_from_config(facts.config)


def load(split, name=DENSE, **given) -> PerformanceEstimate:
    settings = {
        "version": NEWEST_KNOWN,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 256,
        "prompt_tokens": 1024,
        "output_tokens": 256,
        "concurrency": 64,
        **given,
    }
    return estimate(model(name), H100, split, **settings)


def times(split, name=DENSE, nodes=1, found=FOUND, **given):
    return times_of(work_of(model(name), split), H100, found, nodes=nodes, **given)


def links(split, nodes=1) -> Links:
    return Links(split, H100, FOUND, nodes)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8])
def test_stages_share_the_layers_and_the_last_has_the_head(stages):
    work = work_of(model(), Parallelism(pipeline=stages))
    assert sum(count for _, count in work.stages) == stages
    assert sum(stage.layers * count for stage, count in work.stages) == 32
    assert [stage.head is not None for stage, _ in work.stages].count(True) == 1
    assert work.stages[-1][0].head is not None


def test_stages_together_read_what_one_gpu_would():
    whole, staged = (work_of(model(), Parallelism(pipeline=stages)) for stages in (1, 4))
    assert staged.napkin_bytes(1000) == pytest.approx(whole.napkin_bytes(1000))


def test_a_token_passes_through_one_stage_after_the_other():
    one, two = times(Parallelism()), times(Parallelism(pipeline=2))
    slower = FOUND.all_reduce_seconds
    assert two.step(1, 1000, 0, 0) == pytest.approx(one.step(1, 1000, 0, 0) + slower, rel=0.001)


def test_every_stage_has_its_work_on_the_host_where_nothing_is_scheduled_ahead():
    ahead, behind = (times(Parallelism(pipeline=2), ahead=one) for one in (True, False))
    slower = 2 * (FOUND.step_seconds + FOUND.ranks_seconds) + FOUND.sequence_seconds
    assert behind.step(1, 1000, 0, 0) == pytest.approx(ahead.step(1, 1000, 0, 0) + slower)


def test_a_full_pipeline_is_as_fast_as_its_slowest_stage():
    idle = replace(FOUND, step_seconds=0, ranks_seconds=0, sequence_seconds=0, answer_seconds=0)
    staged = times(Parallelism(pipeline=4), found=idle)
    slowest = max(stage.seconds(16, 1000, 0, 0, 16) for stage, _ in staged.stages)
    assert staged.step(16, 1000, 0, 0, in_flight=4) == pytest.approx(4 * slowest)


def test_one_request_gains_nothing_from_a_pipeline():
    one, two = (load(Parallelism(pipeline=stages), concurrency=1) for stages in (1, 2))
    assert two.inter_token_latency > one.inter_token_latency


def test_pieces_of_a_long_prompt_follow_one_another_through_the_stages():
    given = {"concurrency": 1, "prompt_tokens": 64_000, "max_num_batched_tokens": 2048}
    one, four = (load(Parallelism(pipeline=stages), **given) for stages in (1, 4))
    assert four.time_to_first_token < 0.5 * one.time_to_first_token


def test_the_host_is_a_station_of_the_pipeline_before_it_schedules_ahead():
    staged = Parallelism(pipeline=2)
    behind = load(staged, version=Version((0, 28, 0)), concurrency=256)
    ahead = load(staged, version=Version((0, 29, 0)), concurrency=256)
    assert ahead.inter_token_latency < behind.inter_token_latency


def test_what_stages_hand_over_comes_over_the_network_only_between_nodes():
    staged = links(Parallelism(tensor=4, pipeline=4), nodes=2)
    assert [staged.between_nodes(stage) for stage in range(4)] == [False, False, True, False]


@pytest.mark.parametrize(
    "split",
    [
        Parallelism(tensor=8),
        Parallelism(tensor=4, pipeline=2),
        Parallelism(tensor=4, data=2),
        Parallelism(tensor=4, data=2, expert=True),
    ],
    ids=str,
)
def test_a_server_on_two_nodes_is_never_faster_than_on_one(split):
    near, far = (load(split, EXPERTS, nodes=nodes, concurrency=256) for nodes in (1, 2))
    assert far.output_tokens_per_second <= near.output_tokens_per_second
    assert far.time_to_first_token >= near.time_to_first_token


def test_a_pipeline_over_nodes_beats_tensor_parallelism_over_nodes():
    staged = load(Parallelism(tensor=4, pipeline=2), nodes=2, concurrency=128)
    whole = load(Parallelism(tensor=8), nodes=2, concurrency=128)
    assert staged.output_tokens_per_second > whole.output_tokens_per_second


def test_data_parallel_ranks_of_a_dense_model_are_servers_of_their_own():
    one, four = load(Parallelism(), concurrency=32), load(Parallelism(data=4), concurrency=128)
    assert four.inter_token_latency == one.inter_token_latency
    assert four.output_tokens_per_second == pytest.approx(4 * one.output_tokens_per_second)


def test_a_lone_request_is_served_by_one_rank():
    one, four = (load(Parallelism(data=ranks), concurrency=1) for ranks in (1, 4))
    assert four.output_tokens_per_second == pytest.approx(one.output_tokens_per_second)


def test_ranks_that_share_experts_wait_for_the_prompts_of_the_others():
    one = load(Parallelism(tensor=4), EXPERTS, concurrency=16)
    four = load(Parallelism(tensor=4, data=4), EXPERTS, concurrency=64)
    assert four.inter_token_latency > one.inter_token_latency


def test_sharing_experts_reads_fewer_of_them_on_each_rank():
    shared = work_of(model(EXPERTS), Parallelism(data=4, expert=True))
    alone = work_of(model(EXPERTS), Parallelism())
    assert shared.stages[0][0].weight_bytes < 0.35 * alone.stages[0][0].weight_bytes


@pytest.mark.parametrize("expert", [False, True])
def test_experts_are_divided_over_tensor_and_data_parallel_ranks(expert):
    split = Parallelism(tensor=2, data=4, expert=expert)
    on_rank = list(work_of(model(EXPERTS), split).stages[0][0].multiplications)
    whole = list(work_of(model(EXPERTS), Parallelism()).stages[0][0].multiplications)
    shares = [
        part.weight_bytes / one.weight_bytes
        for part, one in zip(on_rank, whole, strict=True)
        if one.experts
    ]
    assert shares == pytest.approx([1 / 8] * 3)


def spread(ranks: int, experts: int = 128, active: int = 8) -> ExpertTimes:
    work = work_of(model(EXPERTS), Parallelism(tensor=ranks, expert=True))
    found = times_of(work, H100, FOUND).stages[0][0].experts[0]
    assert found.per_rank == experts / ranks
    assert found.passed_by == 1 - active / experts
    return found


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("tokens", [1, 10, 1000, 100_000])
def test_the_fullest_rank_has_more_than_its_share_of_tokens_and_never_all_twice(ranks, tokens):
    visits, touched = spread(ranks).fullest(tokens, 1 - (15 / 16) ** tokens)
    assert tokens < visits <= ranks * tokens
    assert touched <= 1


def test_with_many_tokens_the_fullest_rank_has_what_routers_prefer():
    visits, touched = spread(4).fullest(1_000_000, 1.0)
    assert visits == pytest.approx(FOUND.expert_skew * 1_000_000, rel=0.01)
    assert touched == 1


def test_sending_tokens_to_experts_takes_an_all_gather_and_a_reduce_scatter():
    assert links(Parallelism(data=4)).dispatch_bytes(100) == pytest.approx(2 * 3 / 4 * 100)
    whole = links(Parallelism(tensor=2, data=4, expert=True))
    assert whole.dispatch_bytes(100) == pytest.approx(2 * 7 / 8 * 100)


def test_no_gpu_has_more_of_the_network_than_of_its_own_link():
    slow = replace(H100, link_bandwidth=1e9)
    across = Links(Parallelism(tensor=2), slow, FOUND, nodes=2)
    assert across.tensor_bandwidth == pytest.approx(1e9 * FOUND.link_efficiency)
