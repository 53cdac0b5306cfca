"""What a vLLM version demands of GPU and data type for a checkpoint's quantisation method.

Every method is a ``QuantizationConfig`` with ``get_min_capability`` and
``get_supported_act_dtypes``, which vLLM asks before it loads anything (0.33.0 ``config/vllm.py``,
``_get_quantization_config``; 0.8.5 ``config.py``); compressed-tensors asks its schemes besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .devices import Capability, read_capability
from .tables import rows_for
from .versions import Version

DATA_TYPES: Final = ("bfloat16", "float16", "float32")
"""What ``spec.engine.dtype`` can be but for ``auto``, vLLM's preference first."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What a method demands."""

    oldest: Capability
    """The smallest compute capability."""
    dtypes: tuple[str, ...]
    """The data types of activations, in the order of ``DATA_TYPES``."""


NONE: Final = Demands((0, 0), DATA_TYPES)


@lru_cache(maxsize=512)
def demands_of(
    method: str | None,
    named: str | None,
    schemes: frozenset[tuple[str, str]],
    version: Version,
) -> Demands:
    """What ``version`` demands for checkpoints of a method (``quantization.csv``).

    ``named``: the method as ``--quantization`` names it, if it does; ``schemes``: those of linear
    layers, each by what the weights are and what they are multiplied in.
    """
    found = NONE
    for row in rows_for("quantization.csv", version):
        if row["method"] != method or (row["named"] and row["named"] != named):
            continue
        if row["weights"] and not _any(schemes, row["weights"], row["compute"]):
            continue
        oldest = read_capability(row["oldest"]) if row["oldest"] else NONE.oldest
        found = Demands(
            max(found.oldest, oldest),
            tuple(one for one in found.dtypes if one in dtypes_in(row["dtypes"])),
        )
    return found


def dtypes_in(cell: str) -> tuple[str, ...]:
    """The data types of a table's cell; an empty one stands for all."""
    return tuple(cell.split("|")) if cell else DATA_TYPES


def _any(schemes: Iterable[tuple[str, str]], weights: str, compute: str) -> bool:
    return any(
        name.startswith(weights) and compute in ("", multiplied) for name, multiplied in schemes
    )
