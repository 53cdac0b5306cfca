"""Tuning forecasts for servers that the performance model describes, and for no others."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import H100, LLAMA_8B, inputs_for, plan_of, server
from vllm_operator.sizing.plan.speed import Described, described

EMBEDDING = "Qwen/Qwen3-Embedding-8B"
PICTURES = "Qwen/Qwen3-VL-30B-A3B-Instruct"


def found(model: str, **spec: Any) -> Described | None:
    """What is known of it, where it can be planned at all."""
    assert plan_of(model, **spec).problems == []
    planned = server(model, gpu=H100, **spec)
    return described(planned, inputs_for(planned))


@pytest.mark.parametrize("spec", [{}, {"engine": {}}, {"parallelism": {"tensor": 2}}], ids=str)
def test_one_engine_on_one_node_is_described(spec: dict[str, Any]) -> None:
    assert found(LLAMA_8B, **spec) is not None


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (LLAMA_8B, {"parallelism": {"pipeline": 2}}),
        (LLAMA_8B, {"parallelism": {"data": 2}}),
        (LLAMA_8B, {"engine": {"speculative": {"method": "ngram", "numTokens": 3}}}),
        (EMBEDDING, {}),
        (PICTURES, {}),
    ],
)
def test_what_the_model_does_not_describe_has_no_forecast(model: str, spec: dict[str, Any]) -> None:
    assert found(model, **spec) is None
