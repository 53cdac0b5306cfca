"""Step 3.7's perception encoder."""

from __future__ import annotations

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .parts import Tower, attention, mlp, patches, side, text_width, vision_facts


def step3p7(top: Facts) -> tuple[Tower, ...]:
    """``step3p7.py`` and ``step_vl.py``; every fact of the tower but its sizes must be given.

    Defaults of the sizes: transformers ``models/step3p7/configuration_step3p7.py``. How many tiles
    an image is cut into is not in the config: what is encoded is not profiled here.
    """
    vision = vision_facts(top)
    width, layers = vision.count("width", 1536), vision.count("layers", 47)
    patch = vision.count("patch_size", 14)
    tokens = side(vision, 728, 14) ** 2
    ratio = vision.number("mlp_ratio", 8960 / 1536)
    inner = int(width * ratio)
    if not 0 < inner < 2**24:
        raise vision.refusal("mlp_ratio", f"of {ratio} makes an MLP of width {inner}")
    token = 1 if vision.flag("use_cls_token") else 0
    block = "vision_model.transformer.resblocks"
    name = "vision_model"
    matrices = (
        patches(f"{name}.conv1", 3 * patch**2, width),
        *attention(f"{block}.attn", width, layers),
        *mlp(f"{block}.mlp", width, inner, layers),
        patches(f"{name}.vit_downsampler1", 9 * width, 2 * width, bias=True),
        patches(f"{name}.vit_downsampler2", 9 * 2 * width, 4 * width, bias=True),
        Matrix(
            "vit_large_projector", 4 * width, text_width(top, 4096), Split.OUTPUTS,
            bias=top.flag("projector_bias"),
        ),
    )  # fmt: skip
    norms = layers * 4 * width + token * width
    if vision.config.get("ls_init_value", 0.1) is not None:
        norms += layers * 2 * width
    norms += 2 * width if vision.flag("use_ln_pre", True) else 0
    norms += 2 * width if vision.flag("use_ln_post") else 0
    if vision.flag("use_abs_posemb", True):
        norms += (tokens + token) * width
    heads = vision.count("heads", 16)
    return (Tower(matrices, norms, width, inner, layers, 0, heads),)
