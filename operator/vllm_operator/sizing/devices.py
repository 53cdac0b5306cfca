"""A GPU product as the memory model knows it."""

from __future__ import annotations

from vllm_operator.hardware import catalogue
from vllm_operator.hardware import performance as gpu_performance

from .memory import Device


def device_of(product: str, memory_bytes: int, resource_name: str) -> Device:
    """The device of a product's name; one that is not known is taken to be linked."""
    known, figures = catalogue.find(product), gpu_performance.find(product)
    return Device(
        memory_bytes=memory_bytes,
        capability=known.compute_capability if known else None,
        linked=figures is None or figures.link != "pcie",
        rocm=resource_name == catalogue.AMD_RESOURCE,
    )
