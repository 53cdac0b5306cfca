from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from support_logs import read_rows, scored
from support_peers import PEERS, PeerFacts, facts_of, nominal_gib
from support_starts import LoggedStart

LLAMA_8B = PeerFacts("llama", 4096, 4096, 0, 0, False)
QWEN_32B = PeerFacts("qwen", 5120, 8192, 0, 0, False)
QWEN_06B = PeerFacts("qwen", 1024, 2048, 0, 0, False)
LLAMA_70B = PeerFacts("llama", 8192, 8192, 0, 0, False)
GPT_OSS = PeerFacts("other", 2880, 4096, 32, 4, False)
QWEN_30B_A3B = PeerFacts("qwen", 2048, 4096, 128, 8, False)

ON_H100 = next(one for one in scored(read_rows()) if one.id == "L150")


@dataclass(frozen=True)
class Case:
    """Published: KAITO, aiconfigurator native and naive, llm-d, llm-optimizer, vllm-optimizer."""

    name: str
    facts: PeerFacts
    weights: float
    published: tuple[float, ...]
    changes: dict[str, object] = field(default_factory=dict)


CASES = (
    Case("Llama 8B on H100", LLAMA_8B, 14.99, (53.6, 52.8, 52.0, 52.1, 57.0, 51.0)),
    Case("Qwen3 0.6B on H100", QWEN_06B, 1.12, (68.5, 67.0, 63.1, 65.1, 70.9, 64.9)),
    Case("Qwen3 32B on H100", QWEN_32B, 61.03, (4.3, 6.1, 15.2, 5.2, 11.0, 5.0)),
    Case(
        "Llama 70B FP8 on two H100",
        LLAMA_70B,
        33.88,
        (33.4, 33.5, 36.9, 35.1, 38.1, 28.1),
        {"tensor": 2},
    ),
    Case("gpt-oss 20B on H100", GPT_OSS, 13.47, (55.3, 53.7, 53.2, 50.4, 58.5, 52.5)),
    Case(
        "Qwen3 32B on eight H100",
        QWEN_32B,
        7.69,
        (61.5, 59.8, 57.8, 63.0, 64.3, 40.3),
        {"tensor": 8},
    ),
    Case(
        "Llama 8B on H100 NVL",
        LLAMA_8B,
        14.99,
        (66.2, 65.8, 63.2, 64.7, 69.6, 63.6),
        {"gpu_family": "H100 NVL", "max_num_batched_tokens": 4096},
    ),
    Case(
        "Qwen3 30B A3B on half an H200",
        QWEN_30B_A3B,
        56.93,
        (7.2, 8.7, 67.3, 5.4, 13.6, 7.6),
        {"gpu_family": "H200", "utilization": 0.5},
    ),
    Case(
        "Qwen3 30B A3B on A100",
        QWEN_30B_A3B,
        56.93,
        (8.7, 11.2, 18.5, 6.9, 15.1, 9.1),
        {"gpu_family": "A100", "max_num_batched_tokens": 2048},
    ),
)
FIGURES = [
    pytest.param(case, number, id=f"{peer.name}, {case.name}")
    for case in CASES
    for number, peer in enumerate(PEERS)
]


def start(**changes: object) -> LoggedStart:
    return replace(ON_H100, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("case", "number"), FIGURES)
def test_a_formula_gives_what_was_published_of_it(case: Case, number: int):
    foretold = PEERS[number].forecast(start(**case.changes), case.facts, case.weights)
    assert foretold == pytest.approx(case.published[number], abs=0.2)


def test_a_multimodal_model_has_llm_d_s_own_constant():
    facts = replace(LLAMA_8B, multimodal=True)
    llm_d = next(peer for peer in PEERS if peer.name == "llm-d")
    assert llm_d.forecast(start(), facts, 14.99) == pytest.approx(72 - 14.99 - 2.5 - 0.15)


def test_a_card_of_40_gb_is_counted_as_40():
    small = start(gpu_family="A100", gpu="NVIDIA-A100-SXM4-40GB", gpu_memory_gib=39.5)
    assert nominal_gib(small) == 40


def test_the_attention_s_width_comes_from_the_heads_of_the_layers():
    @dataclass
    class Layer:
        query_dim: int
        experts_per_token: int

    @dataclass
    class Model:
        name: str
        hidden_size: int
        attention_heads: int
        kinds: tuple[Layer, ...]

    model = Model("Qwen3ForCausalLM", 1024, 16, (Layer(128, 0), Layer(0, 0)))
    assert facts_of(model) == QWEN_06B
