"""How MIG slices are named: resource, product and node label.

With the mixed strategy a slice has a resource of its own (``nvidia.com/mig-3g.40gb``), and its
product stands in that resource's label; ``nvidia.com/gpu.product`` keeps the whole card's name.
With the single strategy the slices are ``nvidia.com/gpu`` (NVIDIA/k8s-device-plugin, README).
"""

from __future__ import annotations

import re
from typing import Final

MARK: Final = "-MIG-"
RESOURCE: Final = re.compile(
    r"^nvidia\.com/mig-(?P<profile>[0-9]+g\.(?P<nominal>[0-9]+)gb(?:\.[a-z0-9.]+)?)$"
)


def profile_of(resource_name: str | None) -> str | None:
    """The profile of a slice's own resource: ``3g.40gb``; None for any other resource."""
    match = RESOURCE.match(resource_name or "")
    return match["profile"] if match else None


def nominal_gigabytes(resource_name: str) -> int:
    """What the profile calls itself, never less than the slice's memory in GiB."""
    match = RESOURCE.match(resource_name)
    assert match is not None
    return int(match["nominal"])


def split_product(product: str) -> tuple[str, str | None]:
    """The whole card's product and the slice's profile: None for a whole card."""
    whole, _, profile = product.partition(MARK)
    return whole, profile or None


def slice_of(whole: str, profile: str) -> str:
    """The product of a slice, as the node label says it."""
    return f"{whole}{MARK}{profile}"


def is_slice(product: str, resource_name: str) -> bool:
    """Whether this is a slice, by product (both strategies) or by resource."""
    return MARK in product or profile_of(resource_name) is not None
