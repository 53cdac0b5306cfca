"""What towers are made of, and the facts that several of them read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import FIELD, Facts, shown

MOST_PARAMETERS: Final = 2**40
"""More than any tower has; beyond it the config is wrong, each of its facts plausible or not."""

VISION: Final = "vision_config"

AUDIO: Final = "audio_config"


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
    heads: int = 0
    """Heads of its attention, which tensor-parallel ranks must divide evenly; 0 where any number of
    ranks is taken."""

    @property
    def parameters(self) -> int:
        """Elements that are loaded, on one rank without tensor parallelism."""
        return sum(matrix.parameters for matrix in self.matrices) + self.norms


def attention(
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


def mlp(
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


def patches(
    name: str, inputs: int, width: int, *, bias: bool = False, split: Split = Split.WHOLE
) -> Matrix:
    """The convolution that makes tokens of pixels."""
    return Matrix(name, inputs, width, split, bias=bias, kind="other")


GATED: Final = ("gate_proj", "up_proj")


def vision_facts(top: Facts) -> Facts:
    """The facts of the vision tower, empty where the config leaves them to its class."""
    return top.part(VISION) or Facts({}, f"{FIELD}.{VISION}")


def visual_patches(vision: Facts, width: int, patch: int, *, bias: bool) -> Matrix:
    """That of ``visual.patch_embed``, over several frames.

    Checkpoints also say in_chans, which neither transformers nor vLLM reads.
    """
    channels, frames = vision.count("in_channels", 3), vision.count("temporal_patch_size", 2)
    return patches("visual.patch_embed.proj", channels * frames * patch**2, width, bias=bias)


def text_width(top: Facts, default: int) -> int:
    """The decoder's width, which projectors end in."""
    text = top.part("text_config") or Facts({}, f"{FIELD}.text_config")
    return text.count("hidden_size", default)


def side(vision: Facts, image_size: int, patch_size: int) -> int:
    """Patches along one side of the (square) image."""
    image = vision.count("image_size", image_size)
    patch = vision.count("patch_size", patch_size)
    if patch > image:
        raise vision.refusal("patch_size", f"is {patch}, more than the image's {image}")
    return image // patch


def patches_of_pixels(pixels: int, patch: int, merge: int) -> int:
    """Patches of the largest image of at most ``pixels``, whole merged ones (``qwen2_vl.py``)."""
    return pixels // (patch * merge) ** 2 * merge**2


def feature_layers(top: Facts, layers: int, default: int) -> int:
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
