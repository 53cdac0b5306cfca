"""The GPU, as far as memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.hardware import catalogue
from vllm_operator.hardware import performance as gpu_performance
from vllm_operator.hardware.unified import system_bytes


@dataclass(frozen=True, slots=True)
class Device:
    """The GPU, as far as memory depends on it."""

    memory_bytes: int = 0
    """As the device reports it."""
    capability: tuple[int, int] | None = None
    """Compute capability, where it is known."""
    rocm: bool = False
    """Whether PyTorch runs on ROCm, whose sort takes more than CUDA's."""
    system: tuple[int, int] = (0, 0)
    """Bytes that everything else on the node has of a memory that the device shares with it when
    the engine starts: the best estimate, and the most."""
    linked: bool = True
    """Whether GPUs of a node are joined by more than PCIe: communicators then hold buffers in each
    other's memory."""


ANY_DEVICE: Final = Device()


def device_of(product: str, memory_bytes: int, resource_name: str) -> Device:
    """The device of a product's name; one that is not known is taken to be linked."""
    known, figures = catalogue.find(product), gpu_performance.find(product)
    return Device(
        memory_bytes=memory_bytes,
        capability=known.compute_capability if known else None,
        linked=figures is None or figures.link != "pcie",
        rocm=resource_name == catalogue.AMD_RESOURCE,
        system=system_bytes(known.name if known else product),
    )
