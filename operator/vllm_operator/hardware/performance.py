"""What GPU products can do at best: ``performance.csv``, each row with its datasheet.

Peak figures of dense arithmetic, as the datasheets give them. What a server reaches of them is
sizing's business (``sizing/performance/coefficients.csv``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from vllm_operator import datafiles

from . import catalogue

GIGA: Final = 1e9
TERA: Final = 1e12

Link = Literal["nvlink", "xgmi", "pcie"]
_LINKS: Final[Mapping[str, Link]] = {"nvlink": "nvlink", "xgmi": "xgmi", "pcie": "pcie"}


@dataclass(frozen=True, slots=True)
class GPUPerformance:
    """Peak figures of one product, or (for an alias such as ``H100``) the least of a family."""

    name: str
    generation: str
    """The maker's architecture: ``volta``, ``turing``, ``ampere``, ``ada``, ``hopper``,
    ``blackwell``, ``cdna`` or ``rdna``."""
    memory_bandwidth: float
    """Bytes per second of the GPU's memory."""
    flops_16bit: float
    """Dense bfloat16 or float16 operations per second, accumulated in float32."""
    flops_fp8: float | None
    """Dense FP8 operations per second; None where the hardware has no such multiplication."""
    flops_int8: float | None
    flops_fp4: float | None
    link: Link
    """What joins the GPUs of a node."""
    link_bandwidth: float
    """Bytes per second and direction between one GPU and the others of its node."""
    source: str
    compute_capability: tuple[int, int] | None = None
    """Of products that the catalogue has, and the least of a family; None where it has none."""

    def flops(self, compute: str) -> float:
        """Operations per second of a kind of matrix multiplication (``Scheme.compute``).

        A kind that the hardware lacks runs at 16 bits, as vLLM's Marlin kernels do; ``32bit`` at
        half of that.
        """
        if compute == "32bit":
            return self.flops_16bit / 2
        own = {"fp8": self.flops_fp8, "int8": self.flops_int8, "fp4": self.flops_fp4}
        return own.get(compute) or self.flops_16bit


def fingerprint() -> str:
    """Hash of the table: an estimate made with another one may come out differently."""
    return datafiles.fingerprint(__package__, "performance.csv")


@lru_cache(maxsize=1)
def _rows() -> Mapping[str, GPUPerformance]:
    return {
        row["product"]: GPUPerformance(
            name=row["product"],
            generation=row["generation"],
            memory_bandwidth=float(row["bandwidth_gbs"]) * GIGA,
            flops_16bit=float(row["tflops_16bit"]) * TERA,
            flops_fp8=_tera(row["tflops_fp8"]),
            flops_int8=_tera(row["tflops_int8"]),
            flops_fp4=_tera(row["tflops_fp4"]),
            link=_LINKS[row["link"]],
            link_bandwidth=float(row["link_gbs"]) * GIGA,
            source=row["source"],
            compute_capability=_capability(row["product"]),
        )
        for row in datafiles.rows(__package__, "performance.csv")
    }


@lru_cache(maxsize=1)
def _named() -> Mapping[str, GPUPerformance]:
    return {catalogue.normalised(name): row for name, row in _rows().items()}


def _tera(cell: str) -> float | None:
    return float(cell) * TERA if cell else None


def _capability(product: str) -> tuple[int, int] | None:
    known = catalogue.find(product)
    return known.compute_capability if known else None


def products() -> tuple[GPUPerformance, ...]:
    """Every product, in the file's order."""
    return tuple(_rows().values())


@lru_cache(maxsize=256)
def find(product: str) -> GPUPerformance | None:
    """The figures of a label value, a product name or an alias; None if unknown.

    Of an alias that stands for several products (``A100``), the least of each figure, as
    ``catalogue.find`` takes the least memory. Some products have figures but no memory in the
    catalogue: they are planned with ``spec.gpu.memoryGiB``.
    """
    known = catalogue.find(product)
    if known is None:
        return _named().get(catalogue.normalised(product))
    if known.name in _rows():
        return _rows()[known.name]
    names = {found.name for label in known.label_values if (found := catalogue.find(label))}
    members = [_rows()[name] for name in sorted(names) if name in _rows()]
    return _least(known.name, members) if members else None


def _least(name: str, members: list[GPUPerformance]) -> GPUPerformance:
    slowest = min(members, key=lambda member: member.link_bandwidth)
    return GPUPerformance(
        name=name,
        generation=slowest.generation,
        memory_bandwidth=min(member.memory_bandwidth for member in members),
        flops_16bit=min(member.flops_16bit for member in members),
        flops_fp8=_smallest([member.flops_fp8 for member in members]),
        flops_int8=_smallest([member.flops_int8 for member in members]),
        flops_fp4=_smallest([member.flops_fp4 for member in members]),
        link=slowest.link,
        link_bandwidth=slowest.link_bandwidth,
        source="; ".join(sorted({member.source for member in members})),
        compute_capability=_oldest([member.compute_capability for member in members]),
    )


def _oldest(capabilities: list[tuple[int, int] | None]) -> tuple[int, int] | None:
    known = [one for one in capabilities if one is not None]
    return min(known) if len(known) == len(capabilities) else None


def _smallest(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return min(known) if len(known) == len(figures) else None
