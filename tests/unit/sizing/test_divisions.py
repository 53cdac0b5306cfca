"""How a server is divided over GPUs and nodes, and what is said of the other ways."""

from typing import Any

import pytest

from unit.sizing.examples import (
    LLAMA_8B,
    LLAMA_70B,
    QWEN_7B,
    has,
    inputs_for,
    offer,
    only_problem,
    reason_of,
    server,
    value_of,
)
from vllm_operator.api.plan import Plan
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.split.divisions import Division, Pins, divisions
from vllm_operator.sizing.split.parallelism import Parallelism

R1 = "deepseek-ai/DeepSeek-R1"
QWEN_235B = "Qwen/Qwen3-235B-A22B-FP8"


def planned(model: str, nodes: int = 8, **spec: Any) -> Plan:
    wanted = server(model, **spec)
    return make_plan(wanted, inputs_for(wanted, max_nodes=nodes))


def node(product: str = "H100", count: int = 8) -> dict[str, Any]:
    return {"product": product, "perNode": count}


def shape(plan: Plan) -> tuple[int, int, int, int]:
    """Tensor, pipeline, data, nodes."""
    place = plan.placement
    return place.tensor, place.pipeline, place.data, place.nodes


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def test_deepseek_r1_takes_two_nodes_of_h100_as_two_stages_of_eight():
    plan = planned(R1, gpu=node())
    assert shape(plan) == (8, 2, 1, 2)
    assert plan.placement.gpus_per_replica == 16
    assert value_of(plan, "--pipeline-parallel-size") == "2"
    assert "2 nodes are the fewest" in reason_of(plan, "--pipeline-parallel-size")


def test_deepseek_r1_fits_one_node_of_h200():
    plan = planned(R1, gpu=node("H200"))
    assert shape(plan) == (8, 1, 1, 1)
    assert not has(plan, "--pipeline-parallel-size")


def test_where_servers_run_on_one_node_the_layout_of_several_is_named():
    _, reason, message = only_problem(planned(R1, 1, gpu=node()))
    assert reason == "Infeasible"
    assert "TP8 x PP2 on 2 nodes of 8 H100 would fit" in message
    assert "one node is looked at" in message


def test_a_model_that_one_node_serves_with_less_context_takes_no_second_one():
    plan = planned(LLAMA_70B, gpu=node("L40S", 4))
    assert shape(plan) == (4, 1, 1, 1)
    assert plan.capacity.max_model_len < 131_072


def test_a_pinned_context_that_one_node_does_not_hold_takes_two():
    plan = planned(LLAMA_70B, gpu=node("L40S", 4), engine={"maxModelLen": 131_072})
    assert shape(plan) == (4, 2, 1, 2)


def test_nodes_of_one_gpu_become_one_stage_each_where_they_are_asked_for():
    split = {"pipeline": 3}
    assert shape(planned(LLAMA_70B, gpu=node("H100", 1), parallelism=split)) == (1, 3, 1, 3)
    assert not planned(LLAMA_70B, gpu=node("H100", 1)).feasible


def test_tensor_parallelism_crosses_nodes_only_where_stages_may_not():
    free = planned(R1, gpu=node())
    one_stage = planned(R1, gpu=node(), parallelism={"pipeline": 1})
    assert (free.placement.tensor, shape(one_stage)) == (8, (16, 1, 1, 2))


def test_inside_a_node_stages_reach_what_no_tensor_size_does():
    # 28 heads: vLLM accepts 1, 2 and 4 of six GPUs.
    found = divisions(architecture(QWEN_7B), Pins(), 6, 1, True)
    assert [str(one) for one in found.tensor] == ["TP1", "TP2", "TP4"]
    assert [str(one) for one in found.staged] == [
        "TP2 x PP2",
        "TP2 x PP3",
        "TP1 x PP2",
        "TP1 x PP3",
        "TP1 x PP5",
    ]
    assert [one.parallelism.tensor for one, _ in found.illegal] == [3, 5, 6]


def test_stages_divide_the_latent_cache_that_tensor_parallelism_replicates():
    plan = planned("moonshotai/Kimi-K2-Instruct", gpu=node("H200"), engine={"version": "0.29.0"})
    assert shape(plan) == (4, 2, 1, 1)
    (alone,) = [one for one in plan.rejected if one.tensor == 8]
    shorter = int(alone.reason.partition("at most ")[2].split()[0])
    assert plan.capacity.max_model_len > 1.5 * shorter


def test_stages_are_not_worth_a_little_more_context():
    plan = planned("Qwen/Qwen3-30B-A3B-Instruct-2507", gpu=node("L4", 4))
    assert shape(plan) == (4, 1, 1, 1)
    (staged,) = [one for one in plan.rejected if (one.tensor, one.pipeline) == (2, 2)]
    assert "fit with fewer stages" in staged.reason


def test_six_small_gpus_hold_in_stages_what_four_do_not():
    engine = {"maxModelLen": 32_768}
    plan = planned("Qwen/Qwen2.5-32B-Instruct", gpu=node("A10", 6), engine=engine)
    assert shape(plan) == (2, 3, 1, 1)
    assert "no tensor-parallel size" in reason_of(plan, "--pipeline-parallel-size")


def test_whole_experts_are_chosen_where_only_they_make_a_size_legal():
    plan = planned(QWEN_235B, gpu=node("L40S", 8))
    assert (shape(plan), plan.placement.expert) == ((8, 1, 1, 1), True)
    assert "block of 128" in reason_of(plan, "--enable-expert-parallel")


def test_whole_experts_are_chosen_from_the_version_on_that_has_them_for_all_quantisations():
    plan = planned(QWEN_235B, gpu=node("L40S", 8), engine={"version": "0.9.1"})
    assert not plan.placement.expert


def test_whole_experts_that_are_pinned_away_are_not_chosen():
    plan = planned(QWEN_235B, gpu=node("L40S", 8), parallelism={"expert": False})
    assert (shape(plan), plan.placement.expert) == ((4, 2, 1, 1), False)


def test_a_product_that_needs_no_stages_goes_before_one_that_does():
    wanted = server("Qwen/Qwen2.5-32B-Instruct", engine={"maxModelLen": 32_768})
    offers = (offer("NVIDIA-A10", 21.9, per_node=6), offer("NVIDIA-L40S", 44.3, per_node=8))
    plan = make_plan(wanted, inputs_for(wanted, offers=offers))
    assert (plan.placement.gpu, plan.placement.pipeline) == ("NVIDIA-L40S", 1)
    alone = make_plan(wanted, inputs_for(wanted, offers=offers[:1]))
    assert (alone.placement.gpu, alone.placement.pipeline) == ("NVIDIA-A10", 3)


def test_the_product_in_force_is_kept_though_it_needs_stages():
    wanted = server("Qwen/Qwen2.5-32B-Instruct", engine={"maxModelLen": 32_768})
    offers = (offer("NVIDIA-A10", 21.9, per_node=6), offer("NVIDIA-L40S", 44.3, per_node=8))
    inputs = inputs_for(wanted, offers=offers, preferred_product="NVIDIA-A10")
    assert make_plan(wanted, inputs).placement.gpu == "NVIDIA-A10"


def test_nodes_always_hold_equally_many_gpus():
    for model in (R1, QWEN_235B, LLAMA_70B, QWEN_7B):
        for per_node in range(1, 9):
            found = divisions(architecture(model), Pins(), per_node, 8, True)
            assert all(one.gpus % one.nodes == 0 for one in found.several_nodes)
            assert all(one.gpus // one.nodes <= per_node for one in found.several_nodes)


def test_data_parallel_ranks_share_experts_and_keep_caches_of_their_own():
    whole = planned(R1, gpu=node("H200"))
    ranks = planned(R1, gpu=node("H200"), parallelism={"data": 8})
    assert shape(ranks) == (1, 1, 8, 1)
    assert value_of(ranks, "--data-parallel-size") == "8"
    assert ranks.placement.gpus_per_replica == 8
    # Latent attention is replicated over tensor-parallel ranks; data-parallel ones divide it, less
    # what the tokens take that they gather before the experts.
    assert 8 * ranks.capacity.kv_tokens.low > 3 * whole.capacity.kv_tokens.low


def test_data_parallel_ranks_of_a_dense_model_need_whole_copies():
    plan = planned(LLAMA_8B, gpu=node(), parallelism={"data": 4})
    assert shape(plan) == (1, 1, 4, 1)
    assert plan.memory.weights == planned(LLAMA_8B, gpu=node()).memory.weights


def test_every_pin_is_kept_and_named():
    pins = {"tensor": 2, "pipeline": 2, "data": 2}
    plan = planned(LLAMA_8B, gpu=node(), parallelism=pins)
    assert shape(plan) == (2, 2, 2, 1)
    for name in pins:
        assert reason_of(plan, f"--{name}-parallel-size") == f"pinned in spec.parallelism.{name}"


def test_a_pinned_tensor_size_leaves_the_stages_to_be_computed():
    plan = planned(LLAMA_70B, gpu=node(), parallelism={"tensor": 1}, engine={"maxModelLen": 8192})
    assert shape(plan) == (1, 2, 1, 1)
    assert "tensor is pinned to 1" in reason_of(plan, "--pipeline-parallel-size")


def test_more_stages_than_layers_are_refused_with_the_most_that_work():
    field, reason, message = only_problem(
        planned(LLAMA_8B, gpu=node(), parallelism={"pipeline": 40})
    )
    assert (field, reason) == ("spec.parallelism.pipeline", "IllegalPin")
    assert message.endswith("at most 32")


def test_expert_parallelism_of_a_dense_model_is_refused():
    field, reason, _ = only_problem(planned(LLAMA_8B, gpu=node(), parallelism={"expert": True}))
    assert (field, reason) == ("spec.parallelism.expert", "IllegalPin")


def test_data_parallelism_needs_a_version_that_has_it():
    plan = planned(R1, gpu=node("H200"), parallelism={"data": 8}, engine={"version": "0.8.0"})
    field, _, message = only_problem(plan)
    assert field == "spec.parallelism.data"
    assert "--data-parallel-size" in message


@pytest.mark.parametrize(
    ("pins", "field", "works"),
    [
        ({"tensor": 16}, "tensor", "at most 8 works here"),
        ({"pipeline": 16}, "pipeline", "at most 8"),
        ({"tensor": 4, "data": 4}, "data", "at most 2"),
        ({"tensor": 2, "pipeline": 8}, "pipeline", "at most 4"),
    ],
)
def test_more_ranks_than_a_node_has_gpus_are_refused_with_what_fits(
    pins: dict[str, int], field: str, works: str
):
    plan = planned(LLAMA_8B, 1, gpu=node(), parallelism=pins)
    path, reason, message = only_problem(plan)
    assert (path, reason) == (f"spec.parallelism.{field}", "IllegalPin")
    assert message.endswith(works)


@pytest.mark.parametrize(("gpus", "legal"), [(8, "1, 2, 3, 4, 6"), (6, "1, 2, 3, 4, 6")])
def test_a_data_parallel_size_that_cuts_experts_is_answered_with_the_legal_ones(
    gpus: int, legal: str
):
    pins = {"data": 5, "expert": False}
    gpu = {**node("H200"), "perNode": gpus}
    field, reason, message = only_problem(planned(QWEN_235B, gpu=gpu, parallelism=pins))
    assert (field, reason) == ("spec.parallelism.data", "IllegalPin")
    assert message.endswith(f"vLLM accepts {legal} here")


def test_too_much_utilization_is_told_though_one_gpu_could_not_hold_the_weights():
    engine = {"gpuMemoryUtilization": 0.99}
    plan = planned(LLAMA_70B, 1, gpu=node("A10", 8), engine=engine)
    assert only_problem(plan)[0] == "spec.engine.gpuMemoryUtilization"


def test_an_illegal_size_is_listed_only_below_the_size_that_is_taken():
    plan = planned(LLAMA_70B, gpu=node())
    assert plan.placement.tensor == 4
    assert [one.tensor for one in plan.rejected] == [1, 2, 3]


def test_a_division_is_written_as_people_say_it():
    assert str(Division(Parallelism(8, 2), 2)) == "TP8 x PP2 on 2 nodes"
    assert str(Division(Parallelism(1, 1, 8))) == "TP1 x DP8"
