"""Architectures that vLLM has or had and that sizing refuses by name, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vllm_operator import datafiles

REFUSED: Final[Mapping[str, str]] = {
    **{
        row["architecture"]: f"was served by vLLM up to {row['until']} only"
        for row in datafiles.rows(__package__, "gone.csv")
    },
    "MllamaForConditionalGeneration": (
        "has layers that attend to a picture's own cache; vLLM served it with its first engine "
        "alone, up to 0.10.2; vLLM 0.11.0 and newer have it no more"
    ),
    "Glm5NextForConditionalGeneration": (
        "keeps pooled keys of its indexer and a ring of those not yet pooled beside latent and "
        "recurrent states: index_kpool is not known to sizing"
    ),
    "Glm5NextForCausalLM": (
        "keeps pooled keys of its indexer and a ring of those not yet pooled beside latent and "
        "recurrent states: index_kpool is not known to sizing"
    ),
    **dict.fromkeys(
        ("Qwen4ExpForCausalLM", "Qwen4ExpForConditionalGeneration"),
        "keeps the keys of its sparse attention's index and rings beside recurrent states, and "
        "looks n-grams up in tables: QSA and PLE are not known to sizing",
    ),
    **dict.fromkeys(
        ("Step5ForCausalLM", "Step5ForConditionalGeneration"),
        "keeps summaries of its sparse attention and a ring of the last tokens: its caches are "
        "not known to sizing",
    ),
    "DeepseekV4ForConditionalGeneration": "the tower of vision_n_layers is not known to sizing",
    "DeepseekV41ForCausalLM": "keeps states in layouts of its own: it is not known to sizing",
}
"""Architectures of vLLM that are refused for a reason of their own.

Source: vllm 0.33.0 ``models/registry.py``, ``_PREVIOUSLY_SUPPORTED_MODELS``; ``models/glm5next``,
``models/deepseek_v4/common/vl_model.py``, ``models/deepseek_v41``, ``models/qwen4_exp``,
``models/step5``.
"""
