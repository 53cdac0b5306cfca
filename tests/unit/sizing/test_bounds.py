"""Which figure of the memory model is the estimate, and which the bound that a start must survive.

The figures here are made up, so that each is told from every other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from unit.sizing.examples import GIBIBYTE, LLAMA_8B, plan_of
from vllm_operator.api.plan import Plan
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.asked.speculation import Speculation, rejection_bytes
from vllm_operator.sizing.memory import accounting, coefficients, peak, weights
from vllm_operator.sizing.memory.accounting import Footprint
from vllm_operator.sizing.memory.coefficients import NOTHING, Bytes, Coefficient, sum_of
from vllm_operator.sizing.memory.device import Device
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

CERTAIN = {
    **dict.fromkeys(("weights", "weights_quantized", "weights_rocm", "forward"), (1.0, 1.0)),
    **dict.fromkeys(
        (
            *("weights_fixed", "sampler", "sampler_rocm", "sampler_flashinfer", "sampler_v2"),
            *("transient_fixed", "graphs", "non_torch", "non_torch_linked"),
            *("non_torch_first_engine", "context", "unexplained", "device_total", "tower"),
            *("unlogged", "graphs_base", "sampler_drafting", "forward_sparse"),
            *("sparse_rocm", "non_torch_rocm", "unified", "shared_experts_graphs"),
        ),
        (0.0, 0.0),
    ),
}
"""Figures that take nothing beside weights and the forward pass, without any doubt."""
V19, V33 = Version((0, 19, 0)), Version((0, 33, 0))
DECIDES = {
    "weights": 1.5,
    "weights_fixed": 3.0,
    "forward": 4.0,
    "transient_fixed": 3.0,
    "graphs": 0.002,
    "non_torch_linked": 3.0,
    "sampler_v2": 90.0,
    "unexplained": 0.05,
    "device_total": 3.0,
    "unlogged": 3.0,
}


@contextmanager
def figures(**changed: tuple[float, float]) -> Iterator[None]:
    """Inside, sizing goes by made-up figures: expected and high of each."""
    lines = ["name,since,until,min_tensor_parallel,expected,high,unit,source"]
    for name, (expected, high) in {**CERTAIN, **changed}.items():
        lines.append(f"{name},0.8.0,,1,{expected},{high},,made up")
    with coefficients.use("\n".join(lines)):
        yield


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def planned(version: str = "0.33.0", **engine: object) -> Plan:
    plan = plan_of(LLAMA_8B, engine={"version": version, **engine})
    assert plan.feasible
    return plan


def footprint(version: Version, **options: object) -> Footprint:
    given = {"enforce_eager": False, "device": Device(memory_bytes=80 * GIBIBYTE), **options}
    return accounting.footprint(architecture(LLAMA_8B), version, SINGLE, Load(8, 2048, 2), **given)


TAKES = Footprint(
    weights=Bytes(1000, 1003),
    activation_peak=Bytes(200, 204),
    cuda_graphs=NOTHING,
    non_torch=NOTHING,
    context=Bytes(30, 37),
    cuda_graphs_outside=Bytes(500, 600),
    device_total=Bytes(0, 2),
    unexplained=NOTHING,
    unlogged=NOTHING,
)


def test_what_is_surely_free_at_the_start_is_less_by_the_bounds_of_context_and_device():
    assert TAKES.free_at_start(10_000) == (10_000 - 30, 10_000 - 37 - 2)


def test_the_largest_sure_budget_leaves_room_for_the_bound_of_graphs_beside_the_expected_peak():
    assert TAKES.largest_budget(10_000) == 10_000 - 39 - 600 + 200


def test_the_largest_sure_budget_is_no_more_than_what_is_surely_free():
    few = Footprint(**{**fields(TAKES), "cuda_graphs_outside": Bytes(5, 6)})
    assert few.largest_budget(10_000) == 10_000 - 39


def test_a_pinned_budget_starts_where_graphs_find_their_room_as_far_as_can_be_expected():
    assert TAKES.startable_budget(10_000) == 10_000 - 30 - 500 + 200
    few = Footprint(**{**fields(TAKES), "cuda_graphs_outside": Bytes(5, 6)})
    assert few.startable_budget(10_000) == 10_000 - 39


def test_the_sure_cache_is_what_the_bounds_together_leave_and_the_expected_what_estimates_do():
    spread = 6  # of 3, 4 and 2, rounded up
    assert TAKES.inside_budget == Bytes(1200, 1200 + spread)
    assert TAKES.kv_cache(9999, 0.5) == (5000 - 1200, 5000 - 1200 - spread)


def test_what_an_unlogged_release_may_take_adds_to_the_bounds_of_the_parts():
    release = Footprint(**{**fields(TAKES), "unlogged": Bytes(0, 50)})
    assert release.inside_budget == Bytes(1200, 1200 + 6 + 50)


def fields(found: Footprint) -> dict[str, Bytes]:
    names = (
        *("weights", "activation_peak", "cuda_graphs", "non_torch", "context"),
        *("cuda_graphs_outside", "device_total", "unexplained", "unlogged"),
    )
    return {name: getattr(found, name) for name in names}


def test_bounds_add_as_the_root_of_their_squares_and_round_up():
    assert sum_of((Bytes(10, 13), Bytes(20, 24))) == Bytes(30, 35)
    assert sum_of((Bytes(10, 11), Bytes(20, 21))) == Bytes(30, 32)


def test_each_part_of_a_footprint_carries_its_own_estimate_and_bound():
    exact = weights.bytes_per_rank(architecture(LLAMA_8B), SINGLE, 2, version=V33)
    with figures(
        weights=(1.0, 2.0),
        weights_fixed=(1.0, 3.0),
        graphs=(1 / 32, 1.5 / 32),
        non_torch_linked=(9.0, 11.0),
        context=(13.0, 15.0),
        device_total=(17.0, 19.0),
        unexplained=(0.0, 0.5),
    ):
        inside, outside = footprint(V33), footprint(V19)
    gib = GIBIBYTE
    states = accounting.request_states(architecture(LLAMA_8B), Load(8, 2048, 2))
    assert inside.weights == Bytes(exact + gib, 2 * exact + 3 * gib)
    assert inside.cuda_graphs == Bytes(5 * gib, 7 * gib + gib // 2)
    assert inside.cuda_graphs_outside == NOTHING
    assert inside.non_torch == Bytes(9 * gib + states, 11 * gib + states)
    assert inside.context == Bytes(13 * gib, 15 * gib)
    assert inside.device_total == Bytes(17 * gib, 19 * gib)
    assert inside.unexplained == Bytes(0, 40 * gib)
    assert outside.cuda_graphs == NOTHING
    assert outside.cuda_graphs_outside == Bytes(5 * gib, 7 * gib + gib // 2)
    assert outside.non_torch == Bytes(9 * gib, 11 * gib)


def test_no_graphs_are_counted_where_none_are_captured():
    with figures(graphs=(5.0, 7.0)):
        eager = footprint(V33, enforce_eager=True)
    assert eager.cuda_graphs == eager.cuda_graphs_outside == NOTHING


def test_what_the_shapes_do_not_explain_lies_on_every_rank():
    with figures():
        assert footprint(V33, unexplained_bytes=1000).weights.high == (
            footprint(V33).weights.high + 1000
        )


def test_the_peak_is_that_of_the_forward_pass_where_that_is_the_largest():
    model, load = architecture(LLAMA_8B), Load(8, 2048, 2)
    forward = peak.forward_bytes(model, V33, SINGLE, load)
    with figures(forward=(1.0, 2.0), transient_fixed=(1.0, 3.0)):
        found = peak.activation_peak(model, V33, SINGLE, load)
    assert found == Bytes(forward + GIBIBYTE, 2 * forward + 3 * GIBIBYTE)


def test_the_peak_is_that_of_the_sampler_and_the_last_states_where_that_is_the_largest():
    model, load = architecture(LLAMA_8B), Load(64, 2048, 2)
    with figures(forward=(0.0, 0.0), sampler_v2=(100.0, 200.0)):
        found = peak.activation_peak(model, V33, SINGLE, load)
    logits, last = 64 * 128256, 2 * 2048 * 4096
    assert found == Bytes(100 * logits + last, 200 * logits + last)


def test_no_more_rows_are_sampled_than_a_step_has_tokens():
    assert peak.sampler_logits(architecture(LLAMA_8B), Load(64, 2048, 2)) == 64 * 128256
    assert peak.sampler_logits(architecture(LLAMA_8B), Load(64, 32, 2)) == 32 * 128256


VISION = "Qwen/Qwen2.5-VL-72B-Instruct"


def test_a_tower_s_attention_has_an_estimate_and_a_bound_and_its_mlp_is_known():
    model = architecture(VISION)
    pictures, load = model.pictures, Load(1, 2048, 2, 4096)
    assert pictures is not None
    items = max(peak.encoded_items(pictures, V33, load), peak.frames_of(pictures, load))
    each = 2 * pictures.patches * items
    mlp = each * 2 * (pictures.hidden_size + pictures.intermediate_size)
    width = each * pictures.hidden_size
    tower = peak.tower_bytes(model, V33, load, Coefficient(20.0, 30.0))
    assert tower == (20 * width, 30 * width)
    assert peak.tower_bytes(model, V33, load, Coefficient(0.0, 30.0)) == (mlp, 30 * width)
    assert peak.tower_bytes(model, V33, load, Coefficient(0.0, 0.0)) == (mlp, mlp)
    assert peak.tower_bytes(architecture(LLAMA_8B), V33, load, Coefficient(1.0, 1.0)) == (
        0,
        0,
    )


def test_the_peak_is_that_of_the_tower_where_that_is_the_largest():
    model, load = architecture(VISION), Load(1, 2048, 2, 4096)
    with figures(forward=(0.0, 0.0), tower=(1000.0, 2000.0), transient_fixed=(1.0, 3.0)):
        found = peak.activation_peak(model, V33, SINGLE, load)
        low, high = peak.tower_bytes(model, V33, load, Coefficient(1000.0, 2000.0))
    assert found == Bytes(low + GIBIBYTE, high + 3 * GIBIBYTE)


@pytest.mark.parametrize("name", DECIDES)
def test_every_bound_of_what_the_budget_pays_for_lessens_the_sure_cache_and_not_the_expected(
    name: str,
):
    expected, high = CERTAIN[name][0], DECIDES[name]
    # Prefilling alone would be the larger peak.
    sampled = {"maxNumSeqs": 1024, "maxNumBatchedTokens": 1024} if name == "sampler_v2" else {}
    pinned = {"gpuMemoryUtilization": 0.5, "maxModelLen": 1024, **sampled}
    with figures():
        sure = planned(**pinned).memory
    with figures(**{name: (expected, high)}):
        doubtful = planned(**pinned).memory
    assert sure.margin == 0
    assert doubtful.margin > 0
    assert doubtful.kv_cache.expected == sure.kv_cache.expected
    assert doubtful.kv_cache.low < sure.kv_cache.low


EIGHT_SIZES = {"maxNumSeqs": 20}
"""1, 2, 4, 8, 16, 24, 32 and 40 tokens, of 32 layers."""


def test_graphs_with_adapters_are_bounded_twice_as_well():
    lora = {"maxLoras": 1, "maxRank": 8}
    with figures(graphs=(1 / 256, 3 / 256)):
        alone, beside = planned(**EIGHT_SIZES), planned(**EIGHT_SIZES, lora=lora)
        before = planned("0.19.0", **EIGHT_SIZES, lora=lora, gpuMemoryUtilization=0.9)
    assert (alone.memory.cuda_graphs, alone.memory.margin) == (GIBIBYTE, 2 * GIBIBYTE)
    assert (beside.memory.cuda_graphs, beside.memory.margin) == (2 * GIBIBYTE, 4 * GIBIBYTE)
    assert before.memory.outside_budget == 2 * GIBIBYTE


@pytest.mark.parametrize(
    ("figure", "taken"),
    [
        ({"context": (1.0, 21.0)}, 21),
        ({"device_total": (0.0, 17.0)}, 17),
        ({"graphs": (1 / 160, 33 / 160)}, 33),  # of five sizes and 32 layers
    ],
)
def test_the_utilization_is_lowered_by_the_bounds_of_what_lies_outside_the_budget(
    figure: dict[str, tuple[float, float]], taken: int
):
    with figures(forward=(0.0, 0.0), **figure):
        ledger = planned("0.19.0", maxNumSeqs=8, maxNumBatchedTokens=64).memory
    assert ledger.utilization == int((ledger.total - taken * GIBIBYTE) / ledger.total * 100) / 100


def test_a_pinned_utilization_is_refused_by_what_is_expected_outside_and_warned_by_the_bound():
    with figures(forward=(0.0, 0.0), graphs=(10 / 160, 30 / 160)):
        given = {"version": "0.19.0", "maxNumSeqs": 8, "maxNumBatchedTokens": 64}
        warned, refused = (
            plan_of(
                LLAMA_8B,
                engine={**given, "gpuMemoryUtilization": share},
                parallelism={"tensor": 1, "pipeline": 1},
            )
            for share in (0.85, 0.9)
        )
    assert warned.feasible
    assert any("a request may end the engine" in flag.reason for flag in warned.flags)
    assert not refused.feasible


def test_what_the_ledger_shows_as_outside_is_what_is_expected_there():
    with figures(context=(1.0, 2.0), graphs=(4 / 256, 8 / 256)):
        ledger = planned("0.19.0", **EIGHT_SIZES, gpuMemoryUtilization=0.8).memory
    assert ledger.outside_budget == 5 * GIBIBYTE
    assert ledger.free_at_start.expected == ledger.total - GIBIBYTE
    assert ledger.free_at_start.low == ledger.total - 2 * GIBIBYTE


def test_a_tied_embedding_lies_on_the_first_stage_and_on_the_last():
    model = architecture("Qwen/Qwen2.5-0.5B-Instruct")
    assert weights.stage_bytes(model, Parallelism(1, 2), 2) == (634_362_624, 634_362_624)
    three = weights.stage_bytes(model, Parallelism(1, 3), 2)
    assert three[0] - three[1] == 2 * 151_936 * 896
    assert three[2] > three[1]


@pytest.mark.parametrize(("tokens", "rows"), [(1000, 800), (801, 800), (799, 799), (200, 200)])
def test_only_the_tokens_that_a_step_has_are_verified(tokens: int, rows: int):
    drafts = Speculation("eagle", tokens=7, loads="head", model="a/b")
    found = rejection_bytes(
        drafts, architecture(LLAMA_8B), Version((0, 14, 0)), 1, seqs=100, tokens=tokens
    )
    assert found == rows * 128_256 * 14
