"""LLaVA, Gemma 3 and Mistral 3: a shared encoder and a projector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import FIELD, Facts, shown

from .encoders import clip, pixtral, siglip, with_projector
from .parts import VISION, Tower, mlp, text_width, vision_facts

ENCODERS: Final = {
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
    "pixtral": pixtral,
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


def llava_tower(top: Facts, *, default: int = -2) -> Tower:
    """The encoder that the config names, up to the layer that features are taken from.

    ``default``: that layer where the config is silent.
    """
    vision = top.part(VISION) or Facts(LLAVA_VISION, f"{FIELD}.{VISION}")
    kind = vision.config.get("model_type", "clip_vision_model")
    encoder = ENCODERS.get(kind) if isinstance(kind, str) else None
    if encoder is None:
        raise vision.refusal("model_type", f"is {shown(kind)}; known: {', '.join(ENCODERS)}")
    return encoder(vision, None, top, default=default)


def llava(top: Facts) -> tuple[Tower, ...]:
    """``llava.py``."""
    tower = llava_tower(top)
    text = text_width(top, 4096)
    bias = top.flag("multimodal_projector_bias", True)
    return with_projector(tower, *_projector(tower.hidden_size, text, bias=bias))


def _projector(width: int, text: int, *, bias: bool) -> tuple[Matrix, ...]:
    return mlp(
        "multi_modal_projector", width, text, 1,
        up=("linear_1",), down="linear_2", outputs=text, bias=bias,
    )  # fmt: skip


def llava_next_video(top: Facts) -> tuple[Tower, ...]:
    """``llava_next_video.py``: a replicated, never quantised projector.

    vLLM gives it videos only, of as many frames as fit ``--max-model-len``: not in the config. The
    checkpoint's ``image_newline`` is not loaded.
    """
    tower = llava_tower(top)
    text = text_width(top, 4096)
    bias = top.flag("multimodal_projector_bias", True)
    name = "multi_modal_projector"
    return with_projector(
        tower,
        Matrix(f"{name}.linear_1", tower.hidden_size, text, Split.WHOLE, bias=bias, kind="other"),
        Matrix(f"{name}.linear_2", text, text, Split.WHOLE, bias=bias, kind="other"),
        max_tokens=0,
    )


def llava_next(top: Facts) -> tuple[Tower, ...]:
    """``llava_next.py``: LLaVA's tower and projector, and an embedding of the end of a line.

    An image is cut into the tiles of one of ``image_grid_pinpoints``, beside itself whole
    (``get_image_size_with_most_features``). Defaults: transformers ``models/llava_next``.
    """
    tower = llava_tower(top)
    text = text_width(top, 4096)
    bias = top.flag("multimodal_projector_bias", True)
    vision = top.part(VISION) or Facts(LLAVA_VISION, f"{FIELD}.{VISION}")
    tile = vision.count("image_size", 336)
    given = top.config.get("image_grid_pinpoints", LLAVA_NEXT_GRIDS)
    tiles = tiles_of(top, given, tile)
    return with_projector(
        tower,
        *_projector(tower.hidden_size, text, bias=bias),
        norms=text,
        max_tokens=(tiles + 1) * tower.max_tokens,
    )


LLAVA_NEXT_GRIDS: Final = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
"""Sizes in pixels that images are fitted into where the config is silent."""


def tiles_of(top: Facts, given: object, tile: int) -> int:
    """Tiles of ``tile`` pixels in the largest of the sizes that images are fitted into."""
    sizes = _pairs(top, given)
    return max((-(-height // tile) * -(-width // tile) for height, width in sizes), default=0)


def _pairs(top: Facts, given: object) -> list[tuple[int, int]]:
    fact = "image_grid_pinpoints"
    pairs = given if isinstance(given, (list, tuple)) else [given]
    found = []
    for one in pairs:
        pair = Facts({fact: one}, top.path).numbers(fact, 2)
        found.append((pair[0], pair[1]))
    return found


def llava_llama(top: Facts) -> tuple[Tower, ...]:
    """LLaVA 1.5 as its authors published it: the checkpoint holds the projector alone.

    The CLIP tower that ``mm_vision_tower`` names is a checkpoint of its own. vLLM has no class for
    this architecture; start-up logs of such a checkpoint show no room for a CLIP tower.
    """
    kind = top.config.get("mm_projector_type", "linear")
    width, text = top.count("mm_hidden_size", 1024), top.count("hidden_size")
    if kind != "mlp2x_gelu":
        raise top.refusal("mm_projector_type", f"must be mlp2x_gelu, and is {shown(kind)}")
    tower = Tower((), 0, width, text, 0, 0)
    return with_projector(tower, *_projector(width, text, bias=True))


def gemma3(top: Facts) -> tuple[Tower, ...]:
    """``gemma3_mm.py``: the projection is a bare parameter.

    Defaults: transformers ``models/gemma3/configuration_gemma3.py``.
    """
    vision = vision_facts(top)
    tower = siglip(vision, vision.count("num_hidden_layers", 12), top, default=-1)
    text = text_width(top, 2304)
    projection = Matrix(
        "multi_modal_projector.mm_input_projection_weight",
        tower.hidden_size, text, Split.WHOLE, kind="other",
    )  # fmt: skip
    return with_projector(tower, projection, norms=tower.hidden_size)


MISTRAL_VISION: Final[Mapping[str, Any]] = {"image_size": 1540, "patch_size": 14}
"""Where they differ from Pixtral's defaults, those of a Mistral 3 config without
``vision_config`` (transformers ``models/mistral3/configuration_mistral3.py``)."""


def mistral3(top: Facts) -> tuple[Tower, ...]:
    """``mistral3.py``: the patch merger is an ordinary torch layer, replicated."""
    vision = top.part(VISION) or Facts(MISTRAL_VISION, f"{FIELD}.{VISION}")
    tower = pixtral(vision, None, top, default=-1)
    text = text_width(top, 4096 if top.has("text_config") else 5120)
    merge = top.count("spatial_merge_size", 2)
    width = tower.hidden_size
    name = "multi_modal_projector"
    return with_projector(
        tower,
        Matrix(
            f"{name}.patch_merger.merging_layer", width * merge**2, width, Split.WHOLE, kind="other"
        ),
        *_projector(width, text, bias=top.flag("multimodal_projector_bias")),
        norms=width,
    )
