"""What GPUs of a cluster were measured to do (``vllm-operator calibrate``), as plain data.

``sizing/performance/measured.py`` says what an estimate makes of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from .catalogue import find, normalised

KEPT_AS: Final = "gpu."
"""How the keys begin under which measurements are kept."""
LARGEST: Final = 1e18
"""Operations or bytes a second; a figure above it is no measurement."""


@dataclass(frozen=True, slots=True)
class MeasuredGPU:
    """Best figures of one GPU product, as ``vllm-operator calibrate`` measures them."""

    product: str
    """Label value of the nodes that have it."""
    at: str
    """When, RFC 3339."""
    flops_16bit: float
    """Operations a second of the best bfloat16 (or float16) matrix product."""
    copy_bandwidth: float
    """Bytes a second that the best copy within the GPU's memory read and wrote together."""
    flops_fp8: float | None = None
    """The same with FP8 inputs; None where PyTorch has no such product on this GPU."""
    all_reduce_bandwidth: float | None = None
    """Bytes a second and direction of one GPU in a large all-reduce: 2 (n - 1) / n times the
    tensor's bytes, over its time; None where one GPU was measured."""
    all_reduce_seconds: float | None = None
    """Of an all-reduce of 8 KiB."""
    gpus: int = 1
    """That took part."""
    software: str = ""
    """PyTorch's version and the image."""

    @property
    def key(self) -> str:
        """Where it is kept in a ConfigMap."""
        return KEPT_AS + re.sub(r"[^-._a-zA-Z0-9]", "-", self.product)[:200]

    def to_json_object(self) -> dict[str, Any]:
        """The measurement as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> MeasuredGPU:
        """The inverse of ``to_json_object``. Raises KeyError, TypeError, ValueError."""
        unknown = document.keys() - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(f"unknown figures: {', '.join(sorted(unknown))}")
        found = cls(
            product=str(document["product"]),
            at=str(document["at"]),
            flops_16bit=_positive(document["flops_16bit"]),
            copy_bandwidth=_positive(document["copy_bandwidth"]),
            flops_fp8=_perhaps(document.get("flops_fp8")),
            all_reduce_bandwidth=_perhaps(document.get("all_reduce_bandwidth")),
            all_reduce_seconds=_perhaps(document.get("all_reduce_seconds")),
            gpus=int(document.get("gpus", 1)),
            software=str(document.get("software", "")),
        )
        if not found.product:
            raise ValueError("no product is named")
        return found


def of_product(measured: Iterable[MeasuredGPU], product: str) -> MeasuredGPU | None:
    """The measurement of a product; of a family such as ``H100``, that of its slowest member."""
    found = among(measured, [product])
    return min(found, key=lambda one: one.flops_16bit, default=None)


def among(measured: Iterable[MeasuredGPU], products: Iterable[str]) -> tuple[MeasuredGPU, ...]:
    """Those of some products or families, in their order."""
    wanted = {name for product in products for name in _names(product)}
    return tuple(one for one in measured if normalised(one.product) in wanted)


def _names(product: str) -> set[str]:
    known = find(product)
    return {normalised(one) for one in (product, *(known.label_values if known else ()))}


def _positive(value: Any) -> float:
    number = float(value)
    if isinstance(value, (bool, str)) or not (math.isfinite(number) and 0 < number < LARGEST):
        raise ValueError(f"{value!r} is no measurement")
    return number


def _perhaps(value: Any) -> float | None:
    return None if value is None else _positive(value)
