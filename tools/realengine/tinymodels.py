"""Makes models that are small enough for a test; run by the interpreter of an environment.

`python tinymodels.py DIRECTORY` writes one folder for each model, as a model's author publishes it:
config.json, weights and tokenizer. Weights are random from a fixed seed, and the tokenizer is
trained on a file of the installed vLLM, so the same lock makes the same bytes.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
from tokenizers import (  # type: ignore[import-not-found]
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import (  # type: ignore[import-not-found]
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

SEED = 20260
VOCABULARY = 2048
BEGIN, END, PAD = "<s>", "</s>", "<pad>"
CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "max_position_embeddings": 8192,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {
        **COMMON,
        "model_type": "llama",
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
    },
    # Every layer has a window.
    "mistral": {
        **COMMON,
        "model_type": "mistral",
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "sliding_window": 256,
    },
    # Five layers with a window to one without, and a rest.
    "gemma3": {
        **COMMON,
        "model_type": "gemma3_text",
        "num_hidden_layers": 14,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "sliding_window": 512,
        "layer_types": [
            "full_attention" if number % 6 == 5 else "sliding_attention" for number in range(14)
        ],
        "tie_word_embeddings": True,
    },
    # Windows and whole layers by turns, with experts.
    "gpt-oss": {
        **COMMON,
        "model_type": "gpt_oss",
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "sliding_window": 128,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    # Recurrent layers of the first kind, and one in four that attends, with experts.
    "jamba": {
        **COMMON,
        "model_type": "jamba",
        "num_hidden_layers": 8,
        "num_key_value_heads": 2,
        "num_experts": 2,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    # Recurrent layers of the second kind.
    "granite-hybrid": {
        **COMMON,
        "model_type": "granitemoehybrid",
        "num_hidden_layers": 8,
        "num_key_value_heads": 2,
        "layer_types": ["attention" if number % 4 == 3 else "mamba" for number in range(8)],
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_n_groups": 1,
        "mamba_expand": 2,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 512,
    },
    # One compressed vector for all heads.
    "deepseek": {
        **COMMON,
        "model_type": "deepseek_v2",
        "num_hidden_layers": 3,
        "num_key_value_heads": 8,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    # Windows in every other layer, the first among them.
    "gemma2": {
        **COMMON,
        "model_type": "gemma2",
        "num_hidden_layers": 7,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "sliding_window": 512,
        "tie_word_embeddings": True,
    },
    # Attention and a recurrent layer of the second kind side by side in each layer.
    "falcon-h1": {
        **COMMON,
        "model_type": "falcon_h1",
        "num_hidden_layers": 5,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "mamba_d_ssm": 512,
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 64,
    },
    # Latent attention with compressed queries, and a router in four bytes.
    "glm-flash": {
        **COMMON,
        "model_type": "glm4_moe_lite",
        "num_hidden_layers": 3,
        "num_key_value_heads": 8,
        "q_lora_rank": 128,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    # Gated delta nets, and one layer in four that attends.
    "qwen3-next": {
        **COMMON,
        "model_type": "qwen3_next",
        "num_hidden_layers": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "shared_expert_intermediate_size": 128,
        "decoder_sparse_step": 1,
    },
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer, trained on vLLM's longest source file of options."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None
    assert vllm.origin is not None
    text = Path(vllm.origin).with_name("engine").joinpath("arg_utils.py").read_text()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(text.splitlines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT,
        model_max_length=COMMON["max_position_embeddings"],
    )


def make(directory: Path) -> None:
    """Writes every model below `directory`."""
    words = tokenizer()
    for name, facts in MODELS.items():
        place = directory / name
        torch.manual_seed(SEED)
        given = dict(facts)
        config = AutoConfig.for_model(given.pop("model_type"), **given)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(place)
        words.save_pretrained(place)
        if "layer_types" in facts:  # as authors publish them, not as this library renames them
            config_file = place / "config.json"
            published = json.loads(config_file.read_text()) | {"layer_types": facts["layer_types"]}
            config_file.write_text(json.dumps(published, indent=2))
        # Sampling defaults of a family would make answers depend on the library's release.
        (place / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    # safetensors writes for its owner alone, and in a pod somebody else reads.
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
