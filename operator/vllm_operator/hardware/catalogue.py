"""The GPU products that this release knows: ``gpus.csv``, read once.

Memory is what PyTorch (and so vLLM) sees. NVML's figure, which ``nvidia-smi`` and the node label
``nvidia.com/gpu.memory`` show, is larger: 81559 MiB against 79.18 GiB on an H100.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from vllm_operator import datafiles
from vllm_operator.api.quantity import GIBIBYTE, MEBIBYTE

from . import clouds

NVIDIA_RESOURCE: Final = "nvidia.com/gpu"
AMD_RESOURCE: Final = "amd.com/gpu"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
AMD_PRODUCT_LABEL: Final = "amd.com/gpu.product-name"

MAKERS: Final = frozenset({"nvidia", "geforce", "tesla", "amd", "instinct"})


@dataclass(frozen=True, slots=True)
class GPUProduct:
    """One product, or (for an alias such as ``H100``) a family of products."""

    name: str
    """The usual label value, or the alias of a family."""
    label_values: tuple[str, ...]
    """Values of the product label that mean this product."""
    memory_bytes: int
    """Memory as PyTorch sees it; of a family, the smallest."""
    nvml_bytes: int
    """Memory as NVML (or ROCm) and the node label say it; of a family, the smallest."""
    compute_capability: tuple[int, int] | None
    """CUDA compute capability; None for AMD. Of a family, the smallest."""
    resource_name: str
    source: str

    @property
    def node_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that select nodes with this product, each by itself, with their values."""
        return {self.own_label: self.label_values, **clouds.labels_of(self.label_values)}

    @property
    def own_label(self) -> str:
        """The label that the vendor's own discovery writes."""
        return AMD_PRODUCT_LABEL if self.resource_name == AMD_RESOURCE else PRODUCT_LABEL


def device_memory_from_nvml(nvml_bytes: int) -> int:
    """A cautious figure of what PyTorch sees, from NVML's total: 0.5 GiB and 0.5 % less.

    The largest known difference relative to this rule is that of the A100 40GB (39.39 GiB seen of
    40.00 GiB); every product in ``gpus.csv`` with a reported figure lies above it (a test says so).
    """
    return max(0, nvml_bytes - GIBIBYTE // 2 - nvml_bytes // 200)


def fingerprint() -> str:
    """Hash of the catalogue: a plan made with another one may come out differently."""
    return datafiles.fingerprint(__package__, "gpus.csv")


@lru_cache(maxsize=1)
def products() -> tuple[GPUProduct, ...]:
    """Every product, in the file's order."""
    return tuple(product for product, _, _ in _rows())


def find(product: str) -> GPUProduct | None:
    """The product of a label value, a product name or an alias, in any case; None if unknown.

    An alias that stands for several products (``H100``) gives a family: all their label values,
    and the smallest memory among them.
    """
    return _index().get(normalised(product))


def nearest(product: str, others: Iterable[str] = ()) -> str | None:
    """The known name most like ``product``, for messages; ``others`` are known besides."""
    names = {normalised(name): name for name in others}
    names |= {key: found.name for key, found in _index().items()}
    close = difflib.get_close_matches(normalised(product), sorted(names), n=1, cutoff=0.5)
    return names[close[0]] if close else None


@lru_cache(maxsize=1024)
def normalised(name: str) -> str:
    """A product's name without case, maker and what separates its words: names that are equal so
    mean the same product."""
    words = re.split(r"[\s_.-]+", name.casefold().strip())
    return " ".join(word for word in words if word and word not in MAKERS)


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(";") if part)


@lru_cache(maxsize=1)
def _rows() -> tuple[tuple[GPUProduct, tuple[str, ...], tuple[str, ...]], ...]:
    rows = []
    for row in datafiles.rows(__package__, "gpus.csv"):
        nvml_bytes = int(row["nvml_mib"]) * MEBIBYTE
        reported = row["reported_gib"]
        major, _, minor = row["compute_capability"].partition(".")
        product = GPUProduct(
            name=row["product"],
            label_values=_split(row["label_values"]),
            memory_bytes=int(float(reported) * GIBIBYTE)
            if reported
            else device_memory_from_nvml(nvml_bytes),
            nvml_bytes=nvml_bytes,
            compute_capability=(int(major), int(minor)) if major else None,
            resource_name=row["resource_name"],
            source=row["source"],
        )
        rows.append((product, _split(row["aliases"]), _split(row["families"])))
    return tuple(rows)


@lru_cache(maxsize=1)
def _index() -> dict[str, GPUProduct]:
    index: dict[str, GPUProduct] = {}
    members: dict[str, list[GPUProduct]] = {}
    for product, aliases, families in _rows():
        for name in (product.name, *product.label_values, *aliases):
            index[normalised(name)] = product
        for family in families:
            members.setdefault(family, []).append(product)
    for family, family_products in members.items():
        capabilities = [p.compute_capability for p in family_products if p.compute_capability]
        index[normalised(family)] = replace(
            family_products[0],
            name=family,
            label_values=tuple(v for p in family_products for v in p.label_values),
            memory_bytes=min(p.memory_bytes for p in family_products),
            nvml_bytes=min(p.nvml_bytes for p in family_products),
            compute_capability=min(capabilities, default=None),
            source="; ".join(sorted({p.source for p in family_products})),
        )
    return index
