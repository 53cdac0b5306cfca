"""How far a model's positions reach, as vLLM derives it.

Source: ``_get_and_verify_max_len`` of vllm 0.33.0 ``config/model.py``: scalings other than
llama3, longrope, su and mrope multiply the limit, and yarn starts from the original limit. From
0.30 on it takes the stated limit for yarn (`Architecture.stated_length`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vllm_operator.errors import UnknownModel

UNSCALED: Final = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})
MULTIPLIED: Final = frozenset({"linear", "dynamic", "yarn", "ntk"})


def rope_scaling_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The scaling under its older or its newer name; None where there is none."""
    for fact in ("rope_scaling", "rope_parameters"):
        value = config.get(fact)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise UnknownModel(f"spec.model.config.{fact}", "must be an object or null")
        # Families with two tables have parameters for each kind of layer; the full layers' count.
        nested = value.get("full_attention")
        value = nested if isinstance(nested, Mapping) else value
        if fact == "rope_scaling" or value.get("rope_type", "default") != "default":
            return value
    return None


def is_yarn(scaling: Mapping[str, Any] | None) -> bool:
    """Whether positions are scaled by YaRN."""
    return scaling is not None and scaling.get("rope_type", scaling.get("type")) == "yarn"


def context_length_of(positions: int, scaling: Mapping[str, Any] | None) -> int:
    """The longest request in tokens: ``max_position_embeddings`` after scaling."""
    if scaling is None:
        return positions
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if isinstance(kind, str) and kind in UNSCALED:
        return positions
    if not isinstance(kind, str) or kind not in MULTIPLIED:
        raise UnknownModel(
            "spec.model.config.rope_scaling", f"its type {str(kind)[:40]!r} is not known"
        )
    factor = scaling.get("factor", 1.0)
    original = scaling.get("original_max_position_embeddings", positions)
    for name, value in (("factor", factor), ("original_max_position_embeddings", original)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**30:
            raise UnknownModel(
                f"spec.model.config.rope_scaling.{name}", "must be a positive number"
            )
    length = int((original if kind == "yarn" else positions) * factor)
    if not 1 <= length < 2**30:
        raise UnknownModel("spec.model.config.rope_scaling.factor", "gives no usable length")
    return length
