"""Which divisions vLLM accepts, stated once more from a config.json alone.

So that no test asks the planner's own rules whether the planner keeps them. Sources: vllm 0.33.0
``config/model.py`` (heads), ``layers/linear.py`` and ``layers/quantization`` (sizes that are cut).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PLAIN = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
    }
)
"""Architectures of which this says all: whatever is not refused here is accepted."""


def refusals(
    config: Mapping[str, Any], tensor: int, pipeline: int = 1, data: int = 1, expert: bool = False
) -> list[str]:
    """What vLLM has against a division; of other architectures than the plain, what is sure."""
    own = {"architectures": config["architectures"]}
    text = {**config, **(config.get("text_config") or {}), **own}
    return list(_refusals(text, tensor, pipeline, data, expert))


def _refusals(
    text: Mapping[str, Any], tensor: int, pipeline: int, data: int, expert: bool
) -> Iterator[str]:
    heads = text.get("num_attention_heads") or 0
    layers = text.get("num_hidden_layers") or 0
    if layers and pipeline > layers:
        yield f"{pipeline} stages of {layers} layers"
    if isinstance(heads, int) and heads % tensor:
        yield f"{heads} heads over {tensor} ranks"
    plain = set(text["architectures"]) & PLAIN
    if not plain:
        return
    if expert and "Qwen3MoeForCausalLM" not in plain:
        yield "there are no experts"
    groups = text.get("num_key_value_heads") or heads
    if groups % tensor and tensor % groups:
        yield f"{groups} key/value heads over {tensor} ranks"
    if -(-text["vocab_size"] // 64) * 64 % tensor:
        yield f"a vocabulary of {text['vocab_size']} over {tensor} ranks"
    size = text.get("head_dim") or text["hidden_size"] // heads
    group, block = _cuts(text.get("quantization_config") or {})
    yield from _cut("o_proj", heads * size, tensor, group, 0)
    if "Qwen3MoeForCausalLM" not in plain:
        yield from _cut("down_proj", text["intermediate_size"], tensor, group, block)
    elif not expert:
        yield from _cut("experts", text["moe_intermediate_size"], tensor * data, group, block)


def _cuts(quantization: Mapping[str, Any]) -> tuple[int, int]:
    """Elements of a group, and of a block's side, that no rank's part may cut; 0 for none."""
    if quantization.get("quant_method") == "fp8":
        return 0, (quantization.get("weight_block_size") or [0])[0]
    if quantization.get("quant_method") == "compressed-tensors":
        weights = [one["weights"] for one in quantization["config_groups"].values()]
        if weights[0].get("strategy") == "block":
            return 0, weights[0]["block_structure"][0]
        return weights[0].get("group_size") or 0, 0
    return quantization.get("group_size") or 0, 0


def _cut(what: str, width: int, ranks: int, group: int, block: int) -> Iterator[str]:
    if width % ranks:
        yield f"{what}'s {width} over {ranks} ranks"
    elif ranks > 1 and ((group and width // ranks % group) or (block and width // ranks % block)):
        yield f"{what}'s {width // ranks} a rank cuts a group or block"
