"""A number that a refusal advises works, and the next one on the wrong side of it does not."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, QWEN_0_6B, plan_of
from vllm_operator.api.plan import Problem

QWEN_32B = "Qwen/Qwen2.5-32B-Instruct"
V30 = {"version": "0.30.0"}
DRAFT = {"method": "draft_model", "model": QWEN_0_6B}
NGRAM = {"method": "ngram", "tokens": 3}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a draft model's slots": (
        "Qwen/Qwen3-32B",
        {"engine": {"speculative": DRAFT, "maxNumSeqs": 1024, "maxNumBatchedTokens": 1024}},
    ),
    "drafts of those that are expected": (
        LLAMA_8B,
        {
            "engine": {"speculative": NGRAM, "maxNumBatchedTokens": 128},
            "workload": {"promptTokens": 9, "concurrency": 40},
        },
    ),
    "drafts of pinned sequences": (
        LLAMA_8B,
        {"engine": {"speculative": NGRAM, "maxNumSeqs": 64, "maxNumBatchedTokens": 64}},
    ),
    "drafts beside adapters": (
        LLAMA_8B,
        {
            "engine": {
                **V30,
                "speculative": NGRAM,
                "maxNumSeqs": 64,
                "maxNumBatchedTokens": 128,
                "lora": {"maxRank": 8},
            }
        },
    ),
    "a step of fewer tokens than sequences": (
        LLAMA_8B,
        {"engine": {**V30, "maxNumSeqs": 100, "maxNumBatchedTokens": 50}},
    ),
    "a prompt that is one step": (
        LLAMA_8B,
        {
            "engine": {
                **V30,
                "chunkedPrefill": False,
                "maxModelLen": 4096,
                "maxNumBatchedTokens": 2048,
            }
        },
    ),
    "more than the model's positions": (LLAMA_8B, {"engine": {"maxModelLen": 10**6}}),
    "fewer sequences than requests": (
        LLAMA_8B,
        {"engine": {"maxNumSeqs": 4}, "workload": {"concurrency": 8}},
    ),
    "a shorter length than requests": (
        LLAMA_8B,
        {"engine": {"maxModelLen": 2048}, "workload": {"promptTokens": 2000, "outputTokens": 300}},
    ),
    "more stages than GPUs": (LLAMA_8B, {"parallelism": {"pipeline": 16}}),
    "more data-parallel ranks than GPUs": (LLAMA_8B, {"parallelism": {"tensor": 4, "data": 4}}),
}
ADVICE = re.compile(r"set it to (?P<side>at (?:least|most)) (?P<number>[0-9]+)")


def problems(model: str, spec: dict[str, Any]) -> list[Problem]:
    return list(plan_of(model, **deepcopy(spec)).problems)


def pinned(spec: dict[str, Any], field: str, value: int) -> dict[str, Any]:
    _, room, name = field.split(".")
    changed = deepcopy(spec)
    changed[room][name] = value
    return changed


def advised(model: str, spec: dict[str, Any]) -> tuple[str, str, int]:
    """Field, side and number."""
    (problem,) = problems(model, spec)
    found = ADVICE.search(problem.message)
    assert found, problem.message
    return problem.field, found["side"], int(found["number"])


@pytest.mark.parametrize("case", REFUSED)
def test_the_number_that_is_advised_works(case: str) -> None:
    model, spec = REFUSED[case]
    field, _, number = advised(model, spec)
    assert problems(model, pinned(spec, field, number)) == []


@pytest.mark.parametrize("case", REFUSED)
def test_the_next_number_is_refused_with_the_same_advice(case: str) -> None:
    model, spec = REFUSED[case]
    field, side, number = advised(model, spec)
    beyond = number - 1 if side == "at least" else number + 1
    assert advised(model, pinned(spec, field, beyond)) == (field, side, number)
