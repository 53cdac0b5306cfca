"""Gemma 4: pictures and sound, encoded or only projected."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import FIELD, Facts

from .parts import AUDIO, VISION, Tower, patches, text_width


def gemma4(top: Facts) -> tuple[Tower, ...]:
    """``gemma4_mm.py``: transformers' own towers, every linear replicated on all ranks.

    Shapes and defaults: transformers ``models/gemma4/modeling_gemma4.py`` and
    ``configuration_gemma4.py``. A tower that the config does not have is not built.
    """
    text = text_width(top, 2304)
    vision, audio = top.part(VISION), top.part(AUDIO)
    towers = []
    if vision is not None:
        towers.append(_gemma4_vision(vision, text))
    if audio is not None:
        towers.append(_gemma4_audio(audio, text))
    return tuple(towers)


CLIPPING_BOUNDS: Final = 4
"""Elements that a clipped linear of Gemma 4 has beside its weight: bounds of input and output."""


def _whole(name: str, inputs: int, outputs: int, copies: int = 1, *, bias: bool = False) -> Matrix:
    return Matrix(name, inputs, outputs, Split.WHOLE, bias=bias, copies=copies)


def _gemma4_vision(vision: Facts, text: int) -> Tower:
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 3072)
    layers, heads = vision.count("num_hidden_layers", 16), vision.count("num_attention_heads", 12)
    kv_heads, head_dim = vision.count("num_key_value_heads", 12), vision.count("head_dim", 64)
    patch, pooling = vision.count("patch_size", 16), vision.count("pooling_kernel_size", 3)
    positions = vision.count("position_embedding_size", 10_240)
    soft_tokens = vision.count("default_output_length", 280)
    attn, mlp = "vision_tower.encoder.layers.self_attn", "vision_tower.encoder.layers.mlp"
    matrices = (
        _whole("vision_tower.patch_embedder.input_proj", 3 * patch**2, width),
        _whole(f"{attn}.q_proj", width, heads * head_dim, layers),
        _whole(f"{attn}.k_proj", width, kv_heads * head_dim, layers),
        _whole(f"{attn}.v_proj", width, kv_heads * head_dim, layers),
        _whole(f"{attn}.o_proj", heads * head_dim, width, layers),
        _whole(f"{mlp}.gate_proj", width, inner, layers),
        _whole(f"{mlp}.up_proj", width, inner, layers),
        _whole(f"{mlp}.down_proj", inner, width, layers),
        _whole("embed_vision.embedding_projection", width, text),
    )
    norms = 2 * positions * width + layers * (4 * width + 2 * head_dim)
    if vision.flag("standardize"):
        norms += 2 * width
    if vision.flag("use_clipped_linears"):
        norms += layers * 7 * CLIPPING_BOUNDS
    return Tower(matrices, norms, width, inner, layers, soft_tokens * pooling**2)


def _gemma4_audio(audio: Facts, text: int) -> Tower:
    width, layers = audio.count("hidden_size", 1024), audio.count("num_hidden_layers", 12)
    heads, kernel = audio.count("num_attention_heads", 8), audio.count("conv_kernel_size", 5)
    outputs = audio.count("output_proj_dims", 1536)
    fact = "subsampling_conv_channels"
    channels = audio.list_of(fact, 2) if audio.has(fact) else (128, 32)
    first, second = (Facts({fact: one}, audio.path).count(fact) for one in channels)
    layer = "audio_tower.layers"
    attn, conv = f"{layer}.self_attn", f"{layer}.lconv1d"
    inner = 4 * width
    sampling = "audio_tower.subsample_conv_projection"
    matrices = (
        patches(f"{sampling}.layer0.conv", 9, first),
        patches(f"{sampling}.layer1.conv", 9 * first, second),
        _whole(f"{sampling}.input_proj_linear", first // 4 * second, width),
        # Two feed-forwards a layer, one on either side of the attention.
        _whole(f"{layer}.feed_forward.ffw_layer_1", width, inner, 2 * layers),
        _whole(f"{layer}.feed_forward.ffw_layer_2", inner, width, 2 * layers),
        _whole(f"{attn}.q_proj", width, width, layers),
        _whole(f"{attn}.k_proj", width, width, layers),
        _whole(f"{attn}.v_proj", width, width, layers),
        _whole(f"{attn}.post", width, width, layers),
        _whole(f"{attn}.relative_k_proj", width, width, layers),
        _whole(f"{conv}.linear_start", width, 2 * width, layers),
        _whole(f"{conv}.linear_end", width, width, layers),
        Matrix(f"{conv}.depthwise_conv1d", kernel, width, Split.WHOLE, copies=layers, kind="other"),
        _whole("audio_tower.output_proj", width, outputs, bias=True),
        _whole("embed_audio.embedding_projection", outputs, text),
    )
    # Two norms in each feed-forward, two around the convolution, three around the attention.
    norms = first + second + layers * (9 * width + width // heads)
    if audio.flag("use_clipped_linears", True):
        norms += layers * 10 * CLIPPING_BOUNDS
    return Tower(matrices, norms, width, inner, layers, 0)


def gemma4_unified(top: Facts) -> tuple[Tower, ...]:
    """``gemma4_unified.py``: no encoder, but a projection of patches and one of sound.

    Defaults: transformers 5.24 ``models/gemma4_unified/configuration_gemma4_unified.py``.
    """
    text = text_width(top, 2304)
    vision = top.part(VISION) or Facts({}, f"{FIELD}.{VISION}")
    side = vision.count("patch_size", 16) * vision.count("pooling_kernel_size", 3)
    pixels, width = 3 * side**2, vision.count("mm_embed_dim", 3840)
    name = "vision_embedder"
    matrices = [
        Matrix(f"{name}.patch_dense", pixels, width, Split.OUTPUTS, bias=True),
        _whole("embed_vision.embedding_projection", vision.count("output_proj_dims", width), text),
    ]
    if (audio := top.part(AUDIO)) is not None:
        sound = audio.count(audio.first("output_proj_dims", "audio_embed_dim"), 640)
        matrices.append(_whole("embed_audio.embedding_projection", sound, text))
    # Norms around the projection and behind the positions, of rows and of columns.
    norms = 2 * pixels + 4 * width + 2 * vision.count("mm_posemb_size", 1120) * width
    tokens = vision.count("num_soft_tokens", 280)
    return (Tower(tuple(matrices), norms, width, width, 0, tokens),)
