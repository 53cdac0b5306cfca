"""Whose hardware an extended resource is: ``vendors.csv``. Any other name is somebody's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vllm_operator import datafiles

from . import catalogue


@lru_cache(maxsize=256)
def hardware_of(resource_name: str) -> str | None:
    """The hardware behind a resource (``AMD GPUs`` for amd.com/gpu); None for names of one's own.

    The names are those of ``engine/images.csv``.
    """
    known = (one for prefix, one in _prefixes() if resource_name.startswith(prefix))
    return next(known, None)


def hardware_of_product(product: str, resource_name: str) -> str | None:
    """The hardware of a product: by its resource, else by what the catalogue knows of it."""
    found = hardware_of(resource_name)
    known = catalogue.find(product) if found is None else None
    return found if known is None else hardware_of(known.resource_name)


@dataclass(frozen=True, slots=True)
class Unplanned:
    """Hardware that no plan is made for, or none without help."""

    hardware: str
    because: str
    remedy: str
    given_memory: bool
    """Whether a plan is made where the specification gives its memory."""


@lru_cache(maxsize=256)
def unplanned(product: str | None, resource_name: str | None) -> Unplanned | None:
    """The row of ``unplanned.csv`` that a product or a resource means; None for any other."""
    name = catalogue.normalised(product) if product is not None else None
    for row in datafiles.rows(__package__, "unplanned.csv"):
        of_resource = row["resource"] and (resource_name or "").startswith(row["resource"])
        if of_resource or (name is not None and name in row["names"].split("|")):
            given = "spec.gpu.memoryGiB" in row["remedy"]
            return Unplanned(row["hardware"], row["because"], row["remedy"], given)
    return None


@lru_cache(maxsize=1)
def _prefixes() -> tuple[tuple[str, str], ...]:
    rows = datafiles.rows(__package__, "vendors.csv")
    return tuple((row["prefix"], row["hardware"]) for row in rows)
