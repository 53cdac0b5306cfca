"""Which reader builds which architecture, and where in the config its decoder stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from vllm_operator.models.reader import Facts, shown

from . import (
    beside,
    deepseek_v4,
    dense,
    experts,
    gemma,
    glm,
    gpt,
    indexed,
    kin,
    kin_routed,
    latent,
    mixed,
    plain,
    recurrent,
    routed,
    windows,
)
from .common import Decoder

__all__ = ["FAMILIES", "Decoder", "Family"]

Reader = Callable[[Facts], Decoder]


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture that sizing knows."""

    model_type: str
    read: Reader
    label: str
    """Name of the family, for tables."""
    multimodal: bool = False
    text_defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the config class of its decoder assumes where the config is silent."""
    positions: int | None = None
    """``max_position_embeddings`` where the config is silent."""
    ignores_rope_factor: bool = False
    """vLLM does not multiply this family's positions (``_get_and_verify_max_len``)."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """What its configs call a fact, by the name that most families have for it."""
    text: str = "text_config"
    """The part of a multimodal config that describes its decoder."""
    rotary_rows: int = 1
    """Rows of the rotary table for each position (4 with multimodal rotary embedding)."""


llama = dense.llama_like
_phi3 = partial(llama, query_key_value_bias="no", output_bias="no", mlp_bias="no")
_mistral = partial(_phi3, required=True)
_qwen2 = partial(_mistral, query_key_value_bias="yes")
_qwen3 = partial(llama, mlp_bias="no", query_key_norm=True, size=128, required=True)
_gemma = partial(llama, mlp_bias="no", size=256, tied_by_default=True, required=True)


def _mistral3(facts: Facts) -> Decoder:
    """Mistral 3's decoder, or Mistral 4's: latent attention and experts.

    Source: transformers 5.24 models/mistral4; vllm 0.33.0 ``transformers_utils/configs/mistral.py``
    serves the latter as ``MistralLarge3ForCausalLM``.
    """
    return latent.deepseek(facts) if facts.has("kv_lora_rank") else _mistral(facts)


def _decoder(facts: Facts) -> Decoder:
    """The decoder of the architecture that the part itself names, as InternVL's configs do, or
    whose ``model_type`` it has."""
    names = facts.config.get("architectures")
    name = names[0] if isinstance(names, (list, tuple)) and names else None
    if names is None:
        kind = facts.config.get("model_type")
        name = next((one for one, it in FAMILIES.items() if it.model_type == kind), None)
        names = [f"model_type {shown(kind)}"]
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None or family.multimodal:
        raise facts.refusal("architectures", f"{shown(names)} is no text model that is known")
    if family.text_defaults or family.spellings:
        raise facts.refusal("architectures", f"{name} is not known inside another model")
    return family.read(facts)


_LLAMA_DEFAULTS: Final = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
"""transformers 4.57 models/llama/configuration_llama.py."""
_MROPE: Final = 4
"""vllm 0.33.0 ``layers/rotary_embedding/mrope.py`` caches four times the positions."""

_GPT2: Final = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
_CHATGLM: Final = {
    "num_hidden_layers": "num_layers",
    "vocab_size": "padded_vocab_size",
    "max_position_embeddings": "seq_length",
}
_TELECHAT: Final = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "ffn_hidden_size",
    "max_position_embeddings": "seq_length",
}
_DBRX: Final = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "max_position_embeddings": "max_seq_len",
}
_KIMI_LINEAR: Final = {"max_position_embeddings": "model_max_length"}
_COHERE: Final = {"max_position_embeddings": "model_max_length"}
"""vllm 0.33.0 ``transformers_utils/model_arch_config_convertor.py``: it wins for these models."""

FAMILIES: Final[Mapping[str, Family]] = {
    "LlamaForCausalLM": Family("llama", llama, "Llama"),
    "MistralForCausalLM": Family("mistral", _mistral, "Mistral"),
    "Qwen2ForCausalLM": Family("qwen2", _qwen2, "Qwen2"),
    "Qwen3ForCausalLM": Family("qwen3", _qwen3, "Qwen3"),
    "Phi3ForCausalLM": Family("phi3", _phi3, "Phi"),
    "GemmaForCausalLM": Family("gemma", _gemma, "Gemma"),
    "GraniteForCausalLM": Family("granite", llama, "Granite"),
    "OPTForCausalLM": Family("opt", dense.opt, "OPT"),
    "Starcoder2ForCausalLM": Family("starcoder2", dense.starcoder2, "StarCoder2"),
    "GraniteMoeHybridForCausalLM": Family("granitemoehybrid", dense.granite_hybrid, "Granite 4"),
    "DeciLMForCausalLM": Family("nemotron-nas", dense.decilm, "Nemotron-NAS"),
    "Gemma3ForCausalLM": Family(
        "gemma3_text", gemma.gemma3, "Gemma 3", positions=131072, ignores_rope_factor=True,
        text_defaults={"vocab_size": 262208, "hidden_size": 2304},
    ),
    "Gemma3ForConditionalGeneration": Family(
        "gemma3", gemma.gemma3, "Gemma 3", multimodal=True, positions=131072,
        ignores_rope_factor=True, text_defaults={"vocab_size": 262208, "hidden_size": 2304},
    ),
    "Gemma4ForConditionalGeneration": Family("gemma4", gemma.gemma4, "Gemma 4", multimodal=True),
    "Qwen3MoeForCausalLM": Family("qwen3_moe", experts.qwen3_moe, "Qwen3 MoE"),
    "MixtralForCausalLM": Family("mixtral", experts.mixtral, "Mixtral"),
    "MiniMaxM2ForCausalLM": Family("minimax_m2", experts.minimax_m2, "MiniMax-M2"),
    "MiniMaxM3SparseForCausalLM": Family(
        "minimax_m3_text", indexed.minimax_m3, "MiniMax-M3"
    ),
    "MiniMaxM3SparseForConditionalGeneration": Family(
        "minimax_m3_vl", indexed.minimax_m3, "MiniMax-M3", multimodal=True
    ),
    "Glm4MoeForCausalLM": Family("glm4_moe", experts.glm4_moe, "GLM-4 MoE"),
    "HYV3ForCausalLM": Family("hy_v3", experts.hunyuan_v3, "Hy3"),
    "GptOssForCausalLM": Family("gpt_oss", experts.gpt_oss, "gpt-oss"),
    "MiMoV2ForCausalLM": Family("mimo_v2", experts.mimo_v2, "MiMo-V2"),
    "LagunaForCausalLM": Family("laguna", experts.laguna, "Laguna"),
    "Step3p5ForCausalLM": Family("step3p5", experts.step3p5, "Step-3.5"),
    "Llama4ForConditionalGeneration": Family(
        "llama4", experts.llama4, "Llama 4", multimodal=True
    ),
    "DeepseekV2ForCausalLM": Family("deepseek_v2", latent.deepseek, "DeepSeek"),
    "DeepseekV3ForCausalLM": Family("deepseek_v3", latent.deepseek, "DeepSeek"),
    "DeepseekV32ForCausalLM": Family(
        "deepseek_v32", partial(latent.deepseek, sparse=True), "DeepSeek"
    ),
    "DeepseekV4ForCausalLM": Family("deepseek_v4", deepseek_v4.deepseek_v4, "DeepSeek-V4"),
    "GlmMoeDsaForCausalLM": Family("glm_moe_dsa", partial(latent.deepseek, sparse=True), "GLM-5"),
    "Qwen3NextForCausalLM": Family("qwen3_next", recurrent.qwen3_next, "Qwen3-Next"),
    "Qwen3_5ForConditionalGeneration": Family(
        "qwen3_5", recurrent.qwen3_5, "Qwen3.5", multimodal=True, rotary_rows=_MROPE
    ),
    "Qwen3_5MoeForConditionalGeneration": Family(
        "qwen3_5_moe", recurrent.qwen3_5, "Qwen3.5", multimodal=True, rotary_rows=_MROPE
    ),
    "JambaForCausalLM": Family("jamba", recurrent.jamba, "Jamba"),
    "MambaForCausalLM": Family("mamba", recurrent.mamba_alone, "Mamba", positions=2048),
    "FalconMambaForCausalLM": Family(
        "falcon_mamba", recurrent.mamba_alone, "Mamba", positions=2048
    ),
    "Mamba2ForCausalLM": Family("mamba2", recurrent.mamba2_alone, "Mamba", positions=2048),
    "NemotronHForCausalLM": Family("nemotron_h", recurrent.nemotron_h, "Nemotron-H"),
    "Qwen2VLForConditionalGeneration": Family(
        "qwen2_vl", _qwen2, "Qwen-VL", multimodal=True, rotary_rows=_MROPE
    ),
    "Qwen2_5_VLForConditionalGeneration": Family(
        "qwen2_5_vl", _qwen2, "Qwen-VL", multimodal=True, rotary_rows=_MROPE
    ),
    "Qwen3VLForConditionalGeneration": Family(
        "qwen3_vl", _qwen3, "Qwen-VL", multimodal=True, rotary_rows=_MROPE
    ),
    "Qwen3VLMoeForConditionalGeneration": Family(
        "qwen3_vl_moe", experts.qwen3_moe, "Qwen-VL", multimodal=True, rotary_rows=_MROPE
    ),
    "Gemma2ForCausalLM": Family("gemma2", gemma.gemma2, "Gemma 2", positions=8192),
    "Glm4ForCausalLM": Family("glm4", glm.glm4, "GLM-4"),
    "Glm4vForConditionalGeneration": Family(
        "glm4v", glm.glm4, "GLM-4V", multimodal=True, rotary_rows=_MROPE
    ),
    "Glm4vMoeForConditionalGeneration": Family(
        "glm4v_moe", experts.glm4_moe, "GLM-4V", multimodal=True, rotary_rows=_MROPE
    ),
    "ChatGLMModel": Family("chatglm", glm.chatglm, "ChatGLM", spellings=_CHATGLM),
    "ChatGLMForConditionalGeneration": Family(
        "chatglm", glm.chatglm, "ChatGLM", spellings=_CHATGLM
    ),
    "Glm4MoeLiteForCausalLM": Family("glm4_moe_lite", glm.glm4_moe_lite, "GLM-4.7-Flash"),
    "CohereForCausalLM": Family("cohere", windows.cohere, "Command R", spellings=_COHERE),
    "Cohere2ForCausalLM": Family("cohere2", windows.cohere2, "Command A", spellings=_COHERE),
    "Qwen2MoeForCausalLM": Family("qwen2_moe", routed.qwen2_moe, "Qwen2 MoE"),
    "PhiForCausalLM": Family("phi", gpt.phi, "Phi"),
    "PhiMoEForCausalLM": Family("phimoe", routed.phimoe, "Phi MoE"),
    "InternLM2ForCausalLM": Family("internlm2", plain.internlm2, "InternLM"),
    "InternLM3ForCausalLM": Family("internlm3", plain.internlm3, "InternLM"),
    "Olmo2ForCausalLM": Family("olmo2", windows.olmo, "OLMo"),
    "Olmo3ForCausalLM": Family("olmo3", partial(windows.olmo, windows=True), "OLMo"),
    "OlmoeForCausalLM": Family("olmoe", routed.olmoe, "OLMoE"),
    "ExaoneForCausalLM": Family(
        "exaone", windows.exaone, "EXAONE", spellings={"num_hidden_layers": "num_layers"}
    ),
    "Exaone4ForCausalLM": Family("exaone4", windows.exaone4, "EXAONE"),
    "StableLmForCausalLM": Family("stablelm", gpt.stablelm, "StableLM"),
    "Ernie4_5ForCausalLM": Family("ernie4_5", plain.ernie45, "ERNIE 4.5"),
    "Ernie4_5_MoeForCausalLM": Family("ernie4_5_moe", routed.ernie45_moe, "ERNIE 4.5"),
    "SeedOssForCausalLM": Family("seed_oss", plain.seed_oss, "Seed-OSS"),
    "SmolLM3ForCausalLM": Family("smollm3", plain.smollm3, "SmolLM 3"),
    "NemotronForCausalLM": Family("nemotron", gpt.nemotron, "Nemotron"),
    "FalconForCausalLM": Family("falcon", gpt.falcon, "Falcon", positions=2048),
    "FalconH1ForCausalLM": Family("falcon_h1", beside.falcon_h1, "Falcon-H1"),
    "GPT2LMHeadModel": Family("gpt2", gpt.gpt2, "GPT-2", spellings=_GPT2),
    "GPTBigCodeForCausalLM": Family(
        "gpt_bigcode", partial(gpt.gpt2, multi_query=True), "GPT-BigCode", spellings=_GPT2
    ),
    "GPTNeoXForCausalLM": Family(
        "gpt_neox", gpt.gpt_neox, "GPT-NeoX", spellings={"partial_rotary_factor": "rotary_pct"}
    ),
    "HunYuanDenseV1ForCausalLM": Family("hunyuan_v1_dense", plain.hunyuan_dense, "Hunyuan"),
    "HunYuanMoEV1ForCausalLM": Family("hunyuan_v1_moe", routed.hunyuan_moe, "Hunyuan"),
    "ArceeForCausalLM": Family("arcee", gpt.arcee, "Arcee"),
    "ApertusForCausalLM": Family("apertus", gpt.apertus, "Apertus"),
    "MiniCPMForCausalLM": Family("minicpm", plain.minicpm, "MiniCPM"),
    "MiniCPM3ForCausalLM": Family("minicpm3", plain.minicpm3, "MiniCPM"),
    "Lfm2ForCausalLM": Family(
        "lfm2", beside.lfm2, "LFM2", spellings={"intermediate_size": "block_ff_dim"}
    ),
    "Lfm2MoeForCausalLM": Family("lfm2_moe", beside.lfm2_moe, "LFM2"),
    "GraniteMoeForCausalLM": Family("granitemoe", routed.granite_moe, "Granite 3 MoE"),
    "GraniteMoeSharedForCausalLM": Family(
        "granitemoeshared", routed.granite_moe, "Granite 3 MoE"
    ),
    "BailingMoeForCausalLM": Family("bailing_moe", routed.bailing_moe, "Ling"),
    "BailingMoeV2ForCausalLM": Family("bailing_moe_v2", routed.bailing_moe, "Ling"),
    "InternVLChatModel": Family(
        "internvl_chat", _decoder, "InternVL", multimodal=True, text="llm_config"
    ),
    "DotsOCRForCausalLM": Family("dots_ocr", _qwen2, "dots.ocr", multimodal=True),
    "Mistral3ForConditionalGeneration": Family("mistral3", _mistral3, "Mistral", multimodal=True),
    "Ministral3ForCausalLM": Family("ministral3", _mistral, "Mistral"),
    "MistralLarge3ForCausalLM": Family("mistral4", latent.deepseek, "Mistral"),
    "KimiK25ForConditionalGeneration": Family(
        "kimi_k25", latent.deepseek, "Kimi", multimodal=True
    ),
    "KimiK3ForConditionalGeneration": Family(
        "kimi_k3", latent.kimi_linear, "Kimi", multimodal=True
    ),
    "KimiVLForConditionalGeneration": Family(
        "kimi_vl", latent.deepseek, "Kimi", multimodal=True
    ),
    "PaliGemmaForConditionalGeneration": Family(
        "paligemma", _decoder, "PaliGemma", multimodal=True,
        text_defaults={"max_position_embeddings": 8192}
    ),
    "Idefics3ForConditionalGeneration": Family(
        "idefics3", llama, "Idefics 3", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
    "SmolVLMForConditionalGeneration": Family(
        "smolvlm", llama, "SmolVLM", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
    "LlavaOnevisionForConditionalGeneration": Family(
        "llava_onevision", _decoder, "LLaVA", multimodal=True
    ),
    "Cohere2VisionForConditionalGeneration": Family(
        "cohere2_vision", windows.cohere2, "Command A", multimodal=True, spellings=_COHERE
    ),
    "OpenCUAForConditionalGeneration": Family("opencua", _qwen2, "OpenCUA", multimodal=True),
    "Exaone4_5_ForConditionalGeneration": Family(
        "exaone4_5", windows.exaone4, "EXAONE", multimodal=True
    ),
    "InternVLForConditionalGeneration": Family(
        "internvl", _decoder, "InternVL", multimodal=True
    ),
    "KimiLinearForCausalLM": Family(
        "kimi_linear", latent.kimi_linear, "Kimi", spellings=_KIMI_LINEAR
    ),
    "Step3p7ForConditionalGeneration": Family(
        "step3p7", experts.step3p5, "Step-3.5", multimodal=True
    ),
    "Gemma4UnifiedForConditionalGeneration": Family(
        "gemma4_unified", gemma.gemma4, "Gemma 4", multimodal=True
    ),
    "Gemma4ForCausalLM": Family("gemma4_text", gemma.gemma4, "Gemma 4"),
    "Qwen3_5ForCausalLM": Family(
        "qwen3_5_text", recurrent.qwen3_5, "Qwen3.5", rotary_rows=_MROPE
    ),
    "Qwen3_5MoeForCausalLM": Family(
        "qwen3_5_moe_text", recurrent.qwen3_5, "Qwen3.5", rotary_rows=_MROPE
    ),
    "Llama4ForCausalLM": Family("llama4_text", experts.llama4, "Llama 4"),
    "MiMoForCausalLM": Family("mimo", plain.mimo, "MiMo"),
    "MiMoV2FlashForCausalLM": Family("mimo_v2_flash", experts.mimo_v2, "MiMo-V2"),
    "AfmoeForCausalLM": Family("afmoe", mixed.afmoe, "Trinity"),
    "ExaoneMoeForCausalLM": Family("exaone_moe", mixed.exaone_moe, "K-EXAONE"),
    "ExaoneMoEForCausalLM": Family("exaone_moe", mixed.exaone_moe, "K-EXAONE"),
    "DeepseekForCausalLM": Family("deepseek", routed.deepseek_moe, "DeepSeek"),
    "GlmForCausalLM": Family("glm", glm.glm, "GLM-4"),
    "OlmoForCausalLM": Family("olmo", plain.olmo1, "OLMo"),
    "LLaMAForCausalLM": Family("llama", llama, "Llama"),
    "IQuestCoderForCausalLM": Family("iquestcoder", llama, "IQuest-Coder"),
    "TeleChat3ForCausalLM": Family("telechat3", llama, "TeleChat 3"),
    "SolarForCausalLM": Family("solar", kin.solar, "SOLAR Pro"),
    "OrionForCausalLM": Family("orion", kin.orion, "Orion"),
    "Step1ForCausalLM": Family("step1", kin.step1, "Step-1"),
    "TeleChat2ForCausalLM": Family("telechat", kin.telechat2, "TeleChat 2", spellings=_TELECHAT),
    "TeleFLMForCausalLM": Family("teleflm", llama, "Tele-FLM"),
    "HyperCLOVAXForCausalLM": Family("hyperclovax", kin.hyperclovax, "HyperCLOVA X"),
    "GraniteSWAForCausalLM": Family("granite_swa", kin.granite_swa, "Granite"),
    "GraniteMoeSWAForCausalLM": Family(
        "granitemoe_swa", kin_routed.granite_moe_swa, "Granite 3 MoE"
    ),
    "Plamo3ForCausalLM": Family("plamo3", kin.plamo3, "PLaMo 3"),
    "Jais2ForCausalLM": Family("jais2", kin.jais2, "Jais 2", positions=8192),
    "VaultGemmaForCausalLM": Family(
        "vaultgemma", kin.vaultgemma, "VaultGemma", positions=8192
    ),
    "CwmForCausalLM": Family("cwm", llama, "CWM"),
    "PanguEmbeddedForCausalLM": Family("pangu", kin.pangu_embedded, "openPangu"),
    "Param2MoEForCausalLM": Family("param2moe", kin_routed.param2_moe, "Param-2"),
    "SarvamMoEForCausalLM": Family("sarvam_moe", routed.bailing_moe, "Sarvam"),
    "SarvamMLAForCausalLM": Family("sarvam_mla", kin_routed.sarvam_mla, "Sarvam"),
    "AXK1ForCausalLM": Family("axk1", kin_routed.axk1, "A.X K1"),
    "FlexOlmoForCausalLM": Family("flex_olmo", kin_routed.flex_olmo, "FlexOlmo"),
    "MellumForCausalLM": Family("mellum", kin_routed.mellum, "Mellum"),
    "OlmoHybridForCausalLM": Family("olmo_hybrid", kin_routed.olmo_hybrid, "OLMo Hybrid"),
    "Cohere2MoeForCausalLM": Family(
        "cohere2_moe", kin_routed.cohere2_moe, "Command", spellings=_COHERE
    ),
    "DbrxForCausalLM": Family("dbrx", kin_routed.dbrx, "DBRX", spellings=_DBRX),
    "GPTJForCausalLM": Family("gptj", gpt.gpt_j, "GPT-J", spellings=_GPT2),
    "BloomForCausalLM": Family(
        "bloom", gpt.bloom, "BLOOM", positions=2048,
        spellings={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    ),
    "LlavaNextForConditionalGeneration": Family(
        "llava_next", llama, "LLaVA", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
    "LlavaForConditionalGeneration": Family(
        "llava", llama, "LLaVA", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
    "LlavaLlamaForCausalLM": Family(
        "llava_llama", llama, "LLaVA", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
    "LlavaNextVideoForConditionalGeneration": Family(
        "llava_next_video", llama, "LLaVA", multimodal=True, text_defaults=_LLAMA_DEFAULTS
    ),
}  # fmt: skip
