"""Which reader builds the towers of which architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from vllm_operator.models.reader import Facts, shown

from .gemma import gemma4, gemma4_unified
from .glm import glm4v, glm5_next
from .intern import interns1, internvl
from .llama import llama4, mllama
from .llava import gemma3, llava, llava_llama, llava_next, llava_next_video, mistral3
from .minimax import minimax_m3
from .moonvit import kimi_k3, kimi_k25, kimi_vl
from .parts import AUDIO, MOST_PARAMETERS, VISION, Tower
from .projected import cohere2_vision, idefics3, llava_onevision, paligemma
from .qwen import dots_ocr, exaone4_5, qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_vl
from .step import step3p7


def towers_of(config: Mapping[str, Any]) -> tuple[Tower, ...]:
    """The towers of a model, none for a text model.

    Raises UnknownModel for a multimodal architecture that is not known here, and by its name for
    a fact that is not understood.
    """
    top = Facts(config)
    names = config.get("architectures")
    name = names[0] if isinstance(names, (list, tuple)) and names else None
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        for part in (VISION, AUDIO):
            if top.has(part):
                raise top.refusal(
                    part, f"the towers of {shown(name)} are not known; known: {', '.join(FAMILIES)}"
                )
        return ()
    towers = family(top)
    for tower in towers:
        if tower.parameters > MOST_PARAMETERS:
            raise top.refusal(VISION, f"describes an encoder of {tower.parameters} parameters")
    return towers


FAMILIES: Final[Mapping[str, Callable[[Facts], tuple[Tower, ...]]]] = {
    "Qwen2VLForConditionalGeneration": qwen2_vl,
    "Qwen2_5_VLForConditionalGeneration": qwen2_5_vl,
    "Qwen3VLForConditionalGeneration": qwen3_vl,
    "Qwen3VLMoeForConditionalGeneration": qwen3_vl,
    "Qwen3_5ForConditionalGeneration": qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": qwen3_5,
    "Gemma3ForConditionalGeneration": gemma3,
    "Gemma4ForConditionalGeneration": gemma4,
    "Gemma4UnifiedForConditionalGeneration": gemma4_unified,
    "Mistral3ForConditionalGeneration": mistral3,
    "LlavaForConditionalGeneration": llava,
    "LlavaLlamaForCausalLM": llava_llama,
    "LlavaNextForConditionalGeneration": llava_next,
    "LlavaNextVideoForConditionalGeneration": llava_next_video,
    "KimiK25ForConditionalGeneration": kimi_k25,
    "KimiK3ForConditionalGeneration": kimi_k3,
    "KimiVLForConditionalGeneration": kimi_vl,
    "PaliGemmaForConditionalGeneration": paligemma,
    "Idefics3ForConditionalGeneration": idefics3,
    "SmolVLMForConditionalGeneration": idefics3,
    "LlavaOnevisionForConditionalGeneration": llava_onevision,
    "Cohere2VisionForConditionalGeneration": cohere2_vision,
    "OpenCUAForConditionalGeneration": qwen2_5_vl,
    "Exaone4_5_ForConditionalGeneration": exaone4_5,
    "InternVLForConditionalGeneration": interns1,
    "MiniMaxM3SparseForConditionalGeneration": minimax_m3,
    "Step3p7ForConditionalGeneration": step3p7,
    "MllamaForConditionalGeneration": mllama,
    "Llama4ForConditionalGeneration": llama4,
    "InternVLChatModel": internvl,
    "DotsOCRForCausalLM": dots_ocr,
    "Glm4vForConditionalGeneration": glm4v,
    "Glm4vMoeForConditionalGeneration": glm4v,
    "Glm5NextForConditionalGeneration": glm5_next,
}
