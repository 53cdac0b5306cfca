"""The vision and audio towers of multimodal models, read from their ``config.json``.

What stands here is what vLLM 0.33.0 builds (``model_executor/models``), file by file beside each
family; a checkpoint can hold more (layers that no feature is taken from). Facts that a config
leaves out have the defaults of its configuration class in transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .reader import FIELD, Facts, shown
from .shapes import Matrix, Split

MOST_PARAMETERS: Final = 2**40
"""More than any tower has; beyond it the config is wrong, each of its facts plausible or not."""

VISION: Final = "vision_config"
AUDIO: Final = "audio_config"

QWEN2_PIXELS: Final = 12_845_056
"""``max_pixels`` in the ``preprocessor_config.json`` of Qwen2-VL and Qwen2.5-VL."""
QWEN3_PIXELS: Final = 16_777_216
"""``size.longest_edge`` in that of Qwen3-VL and Qwen3.5."""
DOTS_PIXELS: Final = 11_289_600
"""``max_pixels`` in that of dots.ocr."""
GLM_IMAGE_TOKENS: Final = 8000
"""``max_image_tokens`` of GLM-5.3-Flash (vllm ``models/glm5next/common/multimodal.py``)."""
LLAMA4_TILES: Final = 16
"""``max_patches`` in that of Llama 4; one more tile shows the whole image."""


@dataclass(frozen=True, slots=True)
class Tower:
    """An encoder of images or sound with its projector to the decoder's width."""

    matrices: tuple[Matrix, ...]
    """Names below the module: ``visual.blocks.attn.qkv``; equal layers are ``copies``."""
    norms: int
    """Replicated elements: norms, position embeddings, class tokens, gates, clipping bounds."""
    hidden_size: int
    intermediate_size: int
    layers: int
    """Encoder layers that vLLM builds; 0 where only a projector is loaded."""
    max_tokens: int
    """Patches (before they are merged) of the largest image that the model's processor makes;
    0 where the config does not bound it."""

    @property
    def parameters(self) -> int:
        """Elements that are loaded, on one rank without tensor parallelism."""
        return sum(matrix.parameters for matrix in self.matrices) + self.norms


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


# --- parts -----------------------------------------------------------------------------------


def _attention(
    prefix: str,
    width: int,
    copies: int,
    *,
    bias: bool = True,
    query_key_value: str = "qkv_proj",
    output: str = "out_proj",
) -> tuple[Matrix, ...]:
    """Self-attention whose query, key and value projections vLLM fuses."""
    return (
        Matrix(
            f"{prefix}.{query_key_value}", width, 3 * width, Split.OUTPUTS, bias=bias, copies=copies
        ),
        Matrix(f"{prefix}.{output}", width, width, Split.INPUTS, bias=bias, copies=copies),
    )


def _mlp(
    prefix: str,
    width: int,
    inner: int,
    copies: int,
    *,
    up: tuple[str, ...] = ("fc1",),
    down: str = "fc2",
    outputs: int | None = None,
    bias: bool = True,
    kind: Literal["linear", "other"] = "linear",
) -> tuple[Matrix, ...]:
    """Two layers, or a gated MLP where ``up`` names two."""
    last = width if outputs is None else outputs
    return (
        *(
            Matrix(f"{prefix}.{one}", width, inner, Split.OUTPUTS, bias=bias, copies=copies,
                   kind=kind)
            for one in up
        ),
        Matrix(f"{prefix}.{down}", inner, last, Split.INPUTS, bias=bias, copies=copies, kind=kind),
    )  # fmt: skip


def _patches(
    name: str, inputs: int, width: int, *, bias: bool = False, split: Split = Split.WHOLE
) -> Matrix:
    """The convolution that makes tokens of pixels."""
    return Matrix(name, inputs, width, split, bias=bias, kind="other")


GATED: Final = ("gate_proj", "up_proj")


def _vision(top: Facts) -> Facts:
    return top.part(VISION) or Facts({}, f"{FIELD}.{VISION}")


def _text_width(top: Facts, default: int) -> int:
    text = top.part("text_config") or Facts({}, f"{FIELD}.text_config")
    return text.count("hidden_size", default)


def _side(vision: Facts, image_size: int, patch_size: int) -> int:
    """Patches along one side of the (square) image."""
    image = vision.count("image_size", image_size)
    patch = vision.count("patch_size", patch_size)
    if patch > image:
        raise vision.refusal("patch_size", f"is {patch}, more than the image's {image}")
    return image // patch


def _patches_of_pixels(pixels: int, patch: int, merge: int) -> int:
    """Patches of the largest image of at most ``pixels``, whole merged ones (``qwen2_vl.py``)."""
    return pixels // (patch * merge) ** 2 * merge**2


def _feature_layers(top: Facts, layers: int, default: int) -> int:
    """Encoder layers up to the deepest one that features are taken from.

    vLLM builds no layer after it, though checkpoints hold them (``num_hidden_layers_override`` in
    ``clip.py``, ``siglip.py`` and ``pixtral.py``; ``get_layer_index`` in ``utils.py``).
    """
    fact = "vision_feature_layer"
    given = top.config.get(fact)
    value = default if given is None else given
    indexes = value if isinstance(value, (list, tuple)) else [value]
    deepest = 0
    for index in indexes:
        if isinstance(index, bool) or not isinstance(index, int) or abs(index) > layers:
            raise top.refusal(
                fact, f"must be layers from -{layers} to {layers}, and is {shown(value)}"
            )
        deepest = max(deepest, index if index >= 0 else layers + index + 1)
    if deepest == 0:
        raise top.refusal(fact, f"takes features of no layer: {shown(value)}")
    return deepest


# --- encoders that several families share ----------------------------------------------------


def _clip(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """CLIP without the norm after the last layer (``clip.py``).

    Defaults: transformers ``models/clip/configuration_clip.py``.
    """
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 3072)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 32)
    tokens = _side(vision, 224, 32) ** 2 + 1
    all_layers = vision.count("num_hidden_layers", 12)
    layers = _feature_layers(top, all_layers, default) if layers is None else layers
    name = "vision_tower.vision_model"
    layer = f"{name}.encoder.layers"
    return Tower(
        matrices=(
            _patches(f"{name}.embeddings.patch_embedding", channels * patch**2, width),
            *_attention(f"{layer}.self_attn", width, layers),
            *_mlp(f"{layer}.mlp", width, inner, layers),
        ),
        # The class token, the positions, the norm before the first layer, two norms a layer.
        norms=width + tokens * width + 2 * width + layers * 4 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
    )


def _siglip(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """SigLIP without its pooling head (``siglip.py``); ``layers`` None: up to the feature layer.

    Defaults: transformers ``models/siglip/configuration_siglip.py``.
    """
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 3072)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 16)
    tokens = _side(vision, 224, 16) ** 2
    post_norm = layers is not None
    if layers is None:
        layers = _feature_layers(top, vision.count("num_hidden_layers", 12), default)
    name = "vision_tower.vision_model"
    layer = f"{name}.encoder.layers"
    # vLLM quantises this MLP only where 64 divides its widths (bitsandbytes and torchao always).
    kind: Literal["linear", "other"] = "other" if width % 64 or inner % 64 else "linear"
    return Tower(
        matrices=(
            _patches(f"{name}.embeddings.patch_embedding", channels * patch**2, width, bias=True),
            *_attention(f"{layer}.self_attn", width, layers),
            *_mlp(f"{layer}.mlp", width, inner, layers, kind=kind),
        ),
        norms=tokens * width + (2 * width if post_norm else 0) + layers * 4 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
    )


def _pixtral(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """Pixtral as transformers lays it out (``PixtralHFVisionModel`` in ``pixtral.py``).

    Defaults: transformers ``models/pixtral/configuration_pixtral.py``.
    """
    width, inner = vision.count("hidden_size", 1024), vision.count("intermediate_size", 4096)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 16)
    tokens = _side(vision, 1024, 16) ** 2
    if layers is None:
        layers = _feature_layers(top, vision.count("num_hidden_layers", 24), default)
    name = "vision_tower"
    layer = f"{name}.transformer.layers"
    return Tower(
        matrices=(
            _patches(f"{name}.patch_conv", channels * patch**2, width),
            *_attention(f"{layer}.attention", width, layers, bias=False, output="o_proj"),
            *_mlp(f"{layer}.feed_forward", width, inner, layers, up=GATED, down="down_proj",
                  bias=False),
        ),
        norms=width + layers * 2 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
    )  # fmt: skip


def _with(
    tower: Tower, *matrices: Matrix, norms: int = 0, max_tokens: int | None = None
) -> tuple[Tower, ...]:
    """The tower with its projector."""
    return (
        Tower(
            (*tower.matrices, *matrices),
            tower.norms + norms,
            tower.hidden_size,
            tower.intermediate_size,
            tower.layers,
            tower.max_tokens if max_tokens is None else max_tokens,
        ),
    )


# --- LLaVA, Gemma 3, Mistral 3 ---------------------------------------------------------------

ENCODERS: Final = {
    "clip_vision_model": _clip,
    "siglip_vision_model": _siglip,
    "pixtral": _pixtral,
}

LLAVA_VISION: Final[Mapping[str, Any]] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
"""CLIP ViT-L/14 at 336 pixels: the tower of a LLaVA config without ``vision_config``
(transformers ``models/llava/configuration_llava.py``)."""


def _llava_tower(top: Facts) -> Tower:
    vision = top.part(VISION) or Facts(LLAVA_VISION, f"{FIELD}.{VISION}")
    kind = vision.config.get("model_type", "clip_vision_model")
    encoder = ENCODERS.get(kind) if isinstance(kind, str) else None
    if encoder is None:
        raise vision.refusal("model_type", f"is {shown(kind)}; known: {', '.join(ENCODERS)}")
    return encoder(vision, None, top, default=-2)


def _llava(top: Facts) -> tuple[Tower, ...]:
    """``llava.py``."""
    tower = _llava_tower(top)
    text = _text_width(top, 4096)
    bias = top.flag("multimodal_projector_bias", True)
    return _with(tower, *_projector(tower.hidden_size, text, bias=bias))


def _projector(width: int, text: int, *, bias: bool) -> tuple[Matrix, ...]:
    return _mlp(
        "multi_modal_projector", width, text, 1,
        up=("linear_1",), down="linear_2", outputs=text, bias=bias,
    )  # fmt: skip


def _llava_next_video(top: Facts) -> tuple[Tower, ...]:
    """``llava_next_video.py``: a replicated, never quantised projector.

    vLLM gives it videos only, of as many frames as fit ``--max-model-len``: not in the config. The
    checkpoint's ``image_newline`` is not loaded.
    """
    tower = _llava_tower(top)
    text = _text_width(top, 4096)
    bias = top.flag("multimodal_projector_bias", True)
    name = "multi_modal_projector"
    return _with(
        tower,
        Matrix(f"{name}.linear_1", tower.hidden_size, text, Split.WHOLE, bias=bias, kind="other"),
        Matrix(f"{name}.linear_2", text, text, Split.WHOLE, bias=bias, kind="other"),
        max_tokens=0,
    )


def _llava_llama(top: Facts) -> tuple[Tower, ...]:
    """LLaVA 1.5 as its authors published it: the checkpoint holds the projector alone.

    The CLIP tower that ``mm_vision_tower`` names is a checkpoint of its own. vLLM has no class for
    this architecture; start-up logs of such a checkpoint show no room for a CLIP tower.
    """
    kind = top.config.get("mm_projector_type", "linear")
    width, text = top.count("mm_hidden_size", 1024), top.count("hidden_size")
    if kind != "mlp2x_gelu":
        raise top.refusal("mm_projector_type", f"must be mlp2x_gelu, and is {shown(kind)}")
    tower = Tower((), 0, width, text, 0, 0)
    return _with(tower, *_projector(width, text, bias=True))


def _gemma3(top: Facts) -> tuple[Tower, ...]:
    """``gemma3_mm.py``: the projection is a bare parameter.

    Defaults: transformers ``models/gemma3/configuration_gemma3.py``.
    """
    vision = _vision(top)
    tower = _siglip(vision, vision.count("num_hidden_layers", 12), top, default=-1)
    text = _text_width(top, 2304)
    projection = Matrix(
        "multi_modal_projector.mm_input_projection_weight",
        tower.hidden_size, text, Split.WHOLE, kind="other",
    )  # fmt: skip
    return _with(tower, projection, norms=tower.hidden_size)


MISTRAL_VISION: Final[Mapping[str, Any]] = {"image_size": 1540, "patch_size": 14}
"""Where they differ from Pixtral's defaults, those of a Mistral 3 config without
``vision_config`` (transformers ``models/mistral3/configuration_mistral3.py``)."""


def _mistral3(top: Facts) -> tuple[Tower, ...]:
    """``mistral3.py``: the patch merger is an ordinary torch layer, replicated."""
    vision = top.part(VISION) or Facts(MISTRAL_VISION, f"{FIELD}.{VISION}")
    tower = _pixtral(vision, None, top, default=-1)
    text = _text_width(top, 4096 if top.has("text_config") else 5120)
    merge = top.count("spatial_merge_size", 2)
    width = tower.hidden_size
    name = "multi_modal_projector"
    return _with(
        tower,
        Matrix(
            f"{name}.patch_merger.merging_layer", width * merge**2, width, Split.WHOLE, kind="other"
        ),
        *_projector(width, text, bias=top.flag("multimodal_projector_bias", False)),
        norms=width,
    )


# --- Qwen ------------------------------------------------------------------------------------


def _qwen_patches(vision: Facts, width: int, patch: int, *, bias: bool) -> Matrix:
    # Checkpoints also say in_chans, which neither transformers nor vLLM reads.
    channels, frames = vision.count("in_channels", 3), vision.count("temporal_patch_size", 2)
    return _patches("visual.patch_embed.proj", channels * frames * patch**2, width, bias=bias)


def _qwen2_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen2_vl.py``; ``hidden_size`` is the merger's output, the decoder's width.

    Defaults: transformers ``models/qwen2_vl/configuration_qwen2_vl.py``.
    """
    vision = _vision(top)
    width, layers = vision.count("embed_dim", 1280), vision.count("depth", 32)
    text, ratio = vision.count("hidden_size", 3584), vision.number("mlp_ratio", 4)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    inner = int(width * ratio)
    if not 0 < inner < 2**24:
        raise vision.refusal("mlp_ratio", f"of {ratio} makes an MLP of width {inner}")
    merged = width * merge**2
    return (
        Tower(
            matrices=(
                _qwen_patches(vision, width, patch, bias=False),
                *_attention("visual.blocks.attn", width, layers, query_key_value="qkv",
                            output="proj"),
                *_mlp("visual.blocks.mlp", width, inner, layers),
                *_mlp("visual.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text),
            ),
            norms=layers * 4 * width + 2 * width,
            hidden_size=width,
            intermediate_size=inner,
            layers=layers,
            max_tokens=_patches_of_pixels(QWEN2_PIXELS, patch, merge),
        ),
    )  # fmt: skip


def _qwen2_5_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen2_5_vl.py``: norms without bias and a gated MLP.

    Defaults: transformers ``models/qwen2_5_vl/configuration_qwen2_5_vl.py``.
    """
    vision = _vision(top)
    width, layers = vision.count("hidden_size", 3584), vision.count("depth", 32)
    inner, text = vision.count("intermediate_size", 3420), vision.count("out_hidden_size", 3584)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    merged = width * merge**2
    return (
        Tower(
            matrices=(
                _qwen_patches(vision, width, patch, bias=False),
                *_attention("visual.blocks.attn", width, layers, query_key_value="qkv",
                            output="proj"),
                *_mlp("visual.blocks.mlp", width, inner, layers, up=GATED, down="down_proj"),
                *_mlp("visual.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text),
            ),
            norms=layers * 2 * width + width,
            hidden_size=width,
            intermediate_size=inner,
            layers=layers,
            max_tokens=_patches_of_pixels(QWEN2_PIXELS, patch, merge),
        ),
    )  # fmt: skip


def _qwen3_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen3_vl.py``: a merger at the end and one at each deepstack layer.

    Defaults: transformers ``models/qwen3_vl/configuration_qwen3_vl.py`` (the MoE's are the same).
    """
    return (_qwen3_tower(_vision(top), deepstack=3),)


def _qwen3_5(top: Facts) -> tuple[Tower, ...]:
    """``qwen3_5.py``: Qwen3-VL's tower, by default without deepstack.

    Defaults: transformers ``models/qwen3_5/configuration_qwen3_5.py``.
    """
    return (_qwen3_tower(_vision(top), deepstack=0),)


def _qwen3_tower(vision: Facts, *, deepstack: int) -> Tower:
    width, layers = vision.count("hidden_size", 1152), vision.count("depth", 27)
    inner, text = vision.count("intermediate_size", 4304), vision.count("out_hidden_size", 3584)
    patch, merge = vision.count("patch_size", 16), vision.count("spatial_merge_size", 2)
    positions = vision.count("num_position_embeddings", 2304)
    indexes = vision.config.get("deepstack_visual_indexes")
    if indexes is not None:
        if not isinstance(indexes, (list, tuple)) or len(indexes) > layers:
            raise vision.refusal(
                "deepstack_visual_indexes",
                f"must be a list of at most {layers} layers, and is {shown(indexes)}",
            )
        deepstack = len(indexes)
    merged = width * merge**2
    matrices = [
        _qwen_patches(vision, width, patch, bias=True),
        *_attention("visual.blocks.attn", width, layers, query_key_value="qkv", output="proj"),
        *_mlp("visual.blocks.mlp", width, inner, layers, up=("linear_fc1",), down="linear_fc2"),
        *_mlp("visual.merger", merged, merged, 1, up=("linear_fc1",), down="linear_fc2",
              outputs=text),
    ]  # fmt: skip
    if deepstack:
        matrices += _mlp("visual.deepstack_merger_list", merged, merged, deepstack,
                         up=("linear_fc1",), down="linear_fc2", outputs=text)  # fmt: skip
    return Tower(
        matrices=tuple(matrices),
        # The last merger's norm stands before the merging, those of deepstack after it.
        norms=positions * width + layers * 4 * width + 2 * width + deepstack * 2 * merged,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=_patches_of_pixels(QWEN3_PIXELS, patch, merge),
    )


# --- Gemma 4 ---------------------------------------------------------------------------------


def _gemma4(top: Facts) -> tuple[Tower, ...]:
    """``gemma4_mm.py``: transformers' own towers, every linear replicated on all ranks.

    Shapes and defaults: transformers ``models/gemma4/modeling_gemma4.py`` and
    ``configuration_gemma4.py``. A tower that the config does not have is not built.
    """
    text = _text_width(top, 2304)
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
    if vision.flag("standardize", False):
        norms += 2 * width
    if vision.flag("use_clipped_linears", False):
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
        _patches(f"{sampling}.layer0.conv", 9, first),
        _patches(f"{sampling}.layer1.conv", 9 * first, second),
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


# --- Llama -----------------------------------------------------------------------------------


def _mllama(top: Facts) -> tuple[Tower, ...]:
    """Llama 3.2 Vision; the last vLLM to have it is 0.10.2 (``mllama.py`` there).

    Its cross-attention layers belong to the decoder. Defaults: transformers
    ``models/mllama/configuration_mllama.py``.
    """
    vision = _vision(top)
    width, inner = vision.count("hidden_size", 1280), vision.count("intermediate_size", 5120)
    local, over = vision.count("num_hidden_layers", 32), vision.count("num_global_layers", 8)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    tokens, tiles = _side(vision, 448, 14) ** 2 + 1, vision.count("max_num_tiles", 4)
    outputs, text = vision.count("vision_output_dim", 7680), _text_width(top, 4096)
    ratios = 8
    if vision.has("supported_aspect_ratios"):
        ratios = len(vision.config["supported_aspect_ratios"])
    matrices = [
        _patches("vision_model.patch_embedding", channels * patch**2, width, split=Split.OUTPUTS)
    ]
    for name, layers in (("transformer", local), ("global_transformer", over)):
        layer = f"vision_model.{name}.layers"
        matrices += _attention(f"{layer}.self_attn", width, layers, bias=False, output="o_proj")
        matrices += _mlp(f"{layer}.mlp", width, inner, layers)
    matrices.append(Matrix("multi_modal_projector", outputs, text, Split.OUTPUTS, bias=True))
    # Each aspect ratio, and none, has positions of every patch of every tile, and of every tile
    # before and after the encoder; three gates weigh these, two more each global layer's parts.
    tables = (ratios + 1) * tiles * width * (tokens + 2)
    norms = tables + tokens * width + width + 3 + 4 * width
    norms += (local + over) * 4 * width + over * 2
    return (
        Tower(
            tuple(matrices),
            norms,
            width,
            inner,
            local + over,
            # Tiles are padded to a multiple of 8 patches.
            tiles * math.ceil(tokens / 8) * 8,
        ),
    )


def _llama4(top: Facts) -> tuple[Tower, ...]:
    """``mllama4.py``. Defaults: transformers ``models/llama4/configuration_llama4.py``."""
    vision = _vision(top)
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 5632)
    layers, outputs = vision.count("num_hidden_layers", 34), vision.count("vision_output_dim", 7680)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    between = vision.count("projector_input_dim", 4096)
    after = vision.count("projector_output_dim", 4096)
    tokens, text = _side(vision, 448, 14) ** 2 + 1, _text_width(top, 5120)
    layer = "vision_model.model.layers"
    matrices = (
        _patches("vision_model.patch_embedding.linear", channels * patch**2, width,
                 split=Split.OUTPUTS),
        *_attention(f"{layer}.self_attn", width, layers, output="o_proj"),
        *_mlp(f"{layer}.mlp", width, inner, layers),
        # The pixel shuffle makes tokens of the MLP's width out of four patches.
        *_mlp("vision_model.vision_adapter.mlp", inner, between, 1, outputs=after,
              bias=vision.flag("multi_modal_projector_bias", False)),
        Matrix("multi_modal_projector.linear_1", outputs, text, Split.OUTPUTS),
    )  # fmt: skip
    norms = width + tokens * width + 4 * width + layers * 4 * width
    return (Tower(matrices, norms, width, inner, layers, (LLAMA4_TILES + 1) * tokens),)


# --- dots.ocr, GLM ---------------------------------------------------------------------------


def _dots_ocr(top: Facts) -> tuple[Tower, ...]:
    """``dots_ocr.py``; ``hidden_size`` is the merger's output. The merger is never quantised.

    Defaults: vllm ``transformers_utils/configs/dotsocr.py``.
    """
    vision = _vision(top)
    width, inner = vision.count("embed_dim", 1536), vision.count("intermediate_size", 4224)
    layers, text = vision.count("num_hidden_layers", 42), vision.count("hidden_size", 1536)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    merge, bias = vision.count("spatial_merge_size", 2), vision.flag("use_bias", False)
    merged = width * merge**2
    name = "vision_tower"
    matrices = (
        _patches(f"{name}.patch_embed.patchifier.proj", channels * patch**2, width, bias=True),
        *_attention(f"{name}.blocks.attn", width, layers, bias=bias, query_key_value="qkv",
                    output="proj"),
        *_mlp(f"{name}.blocks.mlp", width, inner, layers, up=("fc1", "fc3"), bias=bias),
        *_mlp(f"{name}.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text,
              kind="other"),
    )  # fmt: skip
    norms = width + layers * 2 * width + 2 * width
    if vision.flag("post_norm", True):
        norms += width
    tokens = _patches_of_pixels(DOTS_PIXELS, patch, merge)
    return (Tower(matrices, norms, width, inner, layers, tokens),)


def _glm5_next(top: Facts) -> tuple[Tower, ...]:
    """vllm ``models/glm5next/common/multimodal.py``.

    Defaults: transformers ``models/glm_ocr/configuration_glm_ocr.py``; the merger's width is
    this model's own and has none.
    """
    vision = _vision(top)
    width, inner = vision.count("hidden_size", 1024), vision.count("intermediate_size", 4096)
    layers, heads = vision.count("depth", 24), vision.count("num_heads", 16)
    channels, frames = vision.count("in_channels", 3), vision.count("temporal_patch_size", 2)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    text, between = (
        vision.count("out_hidden_size", 1536),
        vision.count("projection_intermediate_size"),
    )
    matrices = (
        _patches("visual.patch_embed.proj", channels * frames * patch**2, width, bias=True),
        *_attention("visual.blocks.attn", width, layers, query_key_value="qkv", output="proj"),
        *_mlp("visual.blocks.mlp", width, inner, layers, up=GATED, down="down_proj"),
        _patches("visual.downsample", width * merge**2, text, bias=True),
        Matrix("visual.merger.proj", text, text, Split.OUTPUTS),
        *_mlp("visual.merger", text, between, 1, up=GATED, down="down_proj", bias=False),
    )
    # Two norms a layer and those of its queries and keys, one after all, one in the merger.
    norms = layers * (2 * width + 2 * (width // heads)) + width + 2 * text
    return (Tower(matrices, norms, width, inner, layers, GLM_IMAGE_TOKENS * merge**2),)


FAMILIES: Final[Mapping[str, Callable[[Facts], tuple[Tower, ...]]]] = {
    "Qwen2VLForConditionalGeneration": _qwen2_vl,
    "Qwen2_5_VLForConditionalGeneration": _qwen2_5_vl,
    "Qwen3VLForConditionalGeneration": _qwen3_vl,
    "Qwen3VLMoeForConditionalGeneration": _qwen3_vl,
    "Qwen3_5ForConditionalGeneration": _qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": _qwen3_5,
    "Gemma3ForConditionalGeneration": _gemma3,
    "Gemma4ForConditionalGeneration": _gemma4,
    "Mistral3ForConditionalGeneration": _mistral3,
    "LlavaForConditionalGeneration": _llava,
    "LlavaLlamaForCausalLM": _llava_llama,
    "LlavaNextVideoForConditionalGeneration": _llava_next_video,
    "MllamaForConditionalGeneration": _mllama,
    "Llama4ForConditionalGeneration": _llama4,
    "DotsOCRForCausalLM": _dots_ocr,
    "Glm5NextForConditionalGeneration": _glm5_next,
}
