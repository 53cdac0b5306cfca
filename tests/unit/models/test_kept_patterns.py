"""Which modules a pattern in a list of what is not quantised keeps in full, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest

from unit.models.test_quantization import INT4, compressed, modelopt, name_of, read

MODULES = {
    "q of 0": ("self_attn.q_proj", 0),
    "down of 3": ("mlp.down_proj", 3),
    "down of 12": ("mlp.down_proj", 12),
    "gate of 5": ("mlp.gate", 5),
}
PATTERNS = {
    "model.layers.*.self_attn": {"q of 0"},
    "model.layers.*.self_attn.q*": {"q of 0"},
    "model.layers.*.mlp.*": {"down of 3", "down of 12", "gate of 5"},
    "model.layers.*.mlp": {"down of 3", "down of 12", "gate of 5"},
    "model.layers.3.mlp": {"down of 3"},
    "model.layers.3.*_proj": {"down of 3"},
    "model.layers.1*": {"down of 12"},
    "model.layers.*": set(MODULES),
    "*mlp.gate": {"gate of 5"},
    "mlp.down_proj": {"down of 3", "down of 12"},
    "re:.*self_attn.*": {"q of 0"},
    "re:.*layers\\.3\\..*": {"down of 3"},
    "lm_head": set(),
    "model.layers.7.mlp": set(),
}


def listed(producer: str, pattern: str) -> dict[str, Any]:
    if producer == "fp8":
        return {
            "quant_method": "fp8",
            "activation_scheme": "static",
            "ignored_layers": [pattern],
        }
    return compressed(INT4, pattern) if producer == "llm-compressor" else modelopt("FP8", pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("producer", ["fp8", "llm-compressor", "ModelOpt"])
def test_a_pattern_keeps_these_modules_in_full(producer: str, pattern: str) -> None:
    quantization = read(listed(producer, pattern))
    kept = {
        where
        for where, (module, layer) in MODULES.items()
        if name_of(quantization, module, layer) is None
    }
    assert kept == PATTERNS[pattern]
