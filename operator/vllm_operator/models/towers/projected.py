"""Models of a shared encoder and a projector of their own: PaliGemma, SmolVLM, Command A Vision."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .encoders import siglip, with_projector
from .llava import llava_tower, tiles_of
from .parts import Tower, text_width, vision_facts

ONEVISION_TILES: Final = 36
"""Tiles of the largest of LLaVA-OneVision's sizes, 2304 by 2304 pixels, where the config is silent
(transformers ``models/llava_onevision/configuration_llava_onevision.py``)."""


def _all_layers(vision: Facts, top: Facts, default: int) -> Tower:
    """SigLIP with all its layers and the norm behind them."""
    return siglip(vision, vision.count("num_hidden_layers", default), top, default=-1)


def paligemma(top: Facts) -> tuple[Tower, ...]:
    """``paligemma.py``: one replicated, never quantised projection."""
    tower = _all_layers(vision_facts(top), top, 12)
    text = text_width(top, 2048)
    return with_projector(
        tower,
        Matrix("multi_modal_projector.linear", tower.hidden_size,
               vision_facts(top).count("projection_dim", text), Split.WHOLE, bias=True,
               kind="other"),
    )  # fmt: skip


def idefics3(top: Facts) -> tuple[Tower, ...]:
    """``idefics3.py``, SmolVLM too: a pixel shuffle and one replicated projection.

    How many tiles an image is cut into is not in the config: what is encoded is not profiled here.
    """
    tower = _all_layers(vision_facts(top), top, 12)
    wide = tower.hidden_size * top.count("scale_factor", 2) ** 2
    return with_projector(
        tower,
        Matrix("connector.modality_projection.proj", wide, text_width(top, 4096), Split.WHOLE),
        max_tokens=0,
    )


def llava_onevision(top: Facts) -> tuple[Tower, ...]:
    """``llava_onevision.py``: a replicated projector, and an embedding of the end of a line."""
    tower = llava_tower(top, default=-1)
    text = text_width(top, 3584)
    bias = top.flag("multimodal_projector_bias", True)
    name = "multi_modal_projector"
    tile = vision_facts(top).count("image_size", 384)
    tiles = ONEVISION_TILES
    if top.has("image_grid_pinpoints"):
        tiles = tiles_of(top, top.config["image_grid_pinpoints"], tile)
    return with_projector(
        tower,
        Matrix(f"{name}.linear_1", tower.hidden_size, text, Split.WHOLE, bias=bias, kind="other"),
        Matrix(f"{name}.linear_2", text, text, Split.WHOLE, bias=bias, kind="other"),
        norms=text,
        max_tokens=(tiles + 1) * tower.max_tokens,
    )


def cohere2_vision(top: Facts) -> tuple[Tower, ...]:
    """``cohere2_vision.py``: a pixel shuffle and a gated projector, which ranks divide.

    How many tiles an image is cut into is not in the config: what is encoded is not profiled here.
    """
    tower = _all_layers(vision_facts(top), top, 12)
    wide = tower.hidden_size * top.count("downsample_factor", 2) ** 2
    between = top.count("alignment_intermediate_size", 36864) // 2
    name = "multi_modal_projector"
    return with_projector(
        tower,
        Matrix(f"{name}.linear_1", wide, 2 * between, Split.OUTPUTS, bias=True, kind="other"),
        Matrix(f"{name}.linear_2", between, text_width(top, 12288), Split.INPUTS, bias=True,
               kind="other"),
        max_tokens=0,
    )  # fmt: skip
