"""What vLLM's profiling run gives a vision tower: the items with the most tokens.

Sources: vllm 0.8.5 to 0.33.0 ``v1/worker/gpu_model_runner.py`` (``profile_run``), the multimodal
budget beside it, and each model's ``get_mm_max_tokens_per_item``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .reader import FIELD, Facts
from .shapes import Pictures
from .towers import VISION, Tower

QWEN_FRAME_PAIRS: Final = 7
"""Pairs of frames in Qwen2-VL's longest video: 14 frames (``_MAX_FRAMES_PER_VIDEO``)."""
MINIMAX_FRAME_PAIRS: Final = 250
"""Pairs of frames in MiniMax-M3's longest video: 500 frames (``_MAX_FRAMES_PER_VIDEO`` of vllm
0.33.0 ``models/minimax_m3/common/mm_preprocess.py``)."""
QWEN3_VIDEO_VOXELS: Final = 25_165_824
"""``size.longest_edge`` of Qwen3-VL's video processor: pixels of all frames together."""
QWEN3_VIDEO_TOKENS: Final = 12.5
"""Tokens of the prompt that Qwen3-VL's video token was taken to make, timestamps included
(0.11.0 to 0.12.0 ``qwen3_vl.py``, ``get_max_video_tokens``)."""
GEMMA3_TOKENS: Final = 256
"""``mm_tokens_per_image`` where a Gemma 3 config leaves it out."""
LLAMA4_MERGE: Final = 4
"""Patches of a Llama 4 tile that the pixel shuffle makes one token of."""


def pictures_of(
    name: str, config: Mapping[str, object], hidden_size: int, towers: tuple[Tower, ...]
) -> Pictures | None:
    """What is profiled of a model's towers; None for a text model and where it is not known."""
    towers = tuple(tower for tower in towers if tower.max_tokens)
    if not towers:
        return None
    tower = max(towers, key=lambda one: one.max_tokens)
    top = Facts(config)
    vision = top.part(VISION) or Facts({}, f"{FIELD}.{VISION}")
    tokens = TOKENS.get(name, _merged)(top, vision, tower)
    deepstack = vision.config.get("deepstack_visual_indexes")
    levels = 1 + len(deepstack) if isinstance(deepstack, (list, tuple)) else 1
    levels = max(levels, 4) if name.startswith("Qwen3VL") and deepstack is None else levels
    patch = vision.count("patch_size", 14)
    frames = vision.count("temporal_patch_size", 2 if TOKENS.get(name) is _qwen else 1)
    video = 0
    if name.startswith("Qwen3VL"):
        merge = vision.count("spatial_merge_size", 2)
        encoded = QWEN3_VIDEO_VOXELS // 2 // (patch * merge) ** 2
        video = int(encoded * QWEN3_VIDEO_TOKENS)
    return Pictures(
        patches=tower.max_tokens,
        tokens=tokens,
        hidden_size=tower.hidden_size,
        intermediate_size=tower.intermediate_size,
        output=hidden_size * levels,
        patch_elements=3 * frames * patch**2,
        rotary=name in TOKENS and name not in LEARNED_POSITIONS,
        frame_pairs=FRAME_PAIRS.get(name, 0),
        expanded_tokens=video,
    )


def _merged(top: Facts, vision: Facts, tower: Tower) -> int:
    default = top.count("spatial_merge_size", 1)
    return max(1, tower.max_tokens // vision.count("spatial_merge_size", default) ** 2)


def _qwen(top: Facts, vision: Facts, tower: Tower) -> int:
    return max(1, tower.max_tokens // vision.count("spatial_merge_size", 2) ** 2)


def _kimi(top: Facts, vision: Facts, tower: Tower) -> int:
    merge = vision.numbers("merge_kernel_size") or (2, 2)
    return max(1, tower.max_tokens // merge[0] ** 2)


def _intern(top: Facts, vision: Facts, tower: Tower) -> int:
    size = vision.count("image_size", 448) // vision.count("patch_size", 14)
    tiles = tower.max_tokens // (size**2 + 1)
    return max(1, tiles * int(size**2 * top.fraction("downsample_ratio", 0.5) ** 2))


def _gemma3(top: Facts, vision: Facts, tower: Tower) -> int:
    return top.count("mm_tokens_per_image", GEMMA3_TOKENS)


def _gemma4(top: Facts, vision: Facts, tower: Tower) -> int:
    return vision.count("default_output_length", 280)


def _llama4(top: Facts, vision: Facts, tower: Tower) -> int:
    return max(1, tower.max_tokens // LLAMA4_MERGE)


LEARNED_POSITIONS: Final = frozenset({"Gemma3ForConditionalGeneration", "InternVLChatModel"})
"""Models of ``TOKENS`` whose tower (SigLIP, InternViT) adds positions to the patches instead."""

FRAME_PAIRS: Final[Mapping[str, int]] = {
    "Qwen2VLForConditionalGeneration": QWEN_FRAME_PAIRS,
    "Qwen2_5_VLForConditionalGeneration": QWEN_FRAME_PAIRS,
    "OpenCUAForConditionalGeneration": QWEN_FRAME_PAIRS,
    "Exaone4_5_ForConditionalGeneration": QWEN_FRAME_PAIRS,
    "MiniMaxM3SparseForConditionalGeneration": MINIMAX_FRAME_PAIRS,
}
"""Models whose video frames may each be as large as an image, with the pairs of the longest."""

TOKENS: Final[Mapping[str, Callable[[Facts, Facts, Tower], int]]] = {
    "Qwen2VLForConditionalGeneration": _qwen,
    "Qwen2_5_VLForConditionalGeneration": _qwen,
    "Qwen3VLForConditionalGeneration": _qwen,
    "Qwen3VLMoeForConditionalGeneration": _qwen,
    "Qwen3_5ForConditionalGeneration": _qwen,
    "Qwen3_5MoeForConditionalGeneration": _qwen,
    "DotsOCRForCausalLM": _qwen,
    "Glm4vForConditionalGeneration": _qwen,
    "Glm4vMoeForConditionalGeneration": _qwen,
    "Glm5NextForConditionalGeneration": _qwen,
    "Mistral3ForConditionalGeneration": lambda top, vision, tower: max(
        1, tower.max_tokens // top.count("spatial_merge_size", 2) ** 2
    ),
    "Gemma3ForConditionalGeneration": _gemma3,
    "Gemma4ForConditionalGeneration": _gemma4,
    "Gemma4UnifiedForConditionalGeneration": lambda top, vision, tower: tower.max_tokens,
    "Llama4ForConditionalGeneration": _llama4,
    "MiniMaxM3SparseForConditionalGeneration": _qwen,
    "KimiVLForConditionalGeneration": _kimi,
    "OpenCUAForConditionalGeneration": _qwen,
    "Exaone4_5_ForConditionalGeneration": _qwen,
    "KimiK25ForConditionalGeneration": _kimi,
    "KimiK3ForConditionalGeneration": _kimi,
    "InternVLChatModel": _intern,
}
