"""Whose hardware an extended resource is: ``vendors.csv``. Any other name is somebody's own."""

from __future__ import annotations

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


@lru_cache(maxsize=1)
def _prefixes() -> tuple[tuple[str, str], ...]:
    rows = datafiles.rows(__package__, "vendors.csv")
    return tuple((row["prefix"], row["hardware"]) for row in rows)
