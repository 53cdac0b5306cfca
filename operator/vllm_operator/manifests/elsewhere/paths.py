"""Where a server that runs without a container finds what its container would have mounted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vllm_operator.manifests.volumes import CACHE_MOUNT

from .container import Container, Mount

SERVED: Final = ("folder",)
"""Kinds of mounts that have a place of their own on the machine."""


def moves(container: Container, cache: str) -> Mapping[str, str]:
    """By path in the container, the path on the machine where it is another one."""
    found = {}
    for mount in container.mounts:
        if mount.kind in SERVED:
            found[mount.target] = f"{mount.source}/{mount.sub_path}".rstrip("/")
        elif mount.target == CACHE_MOUNT:
            found[mount.target] = cache
    return found


def moved(text: str, places: Mapping[str, str]) -> str:
    """An argument or a variable's value with a path on the machine, after ``--flag=`` too."""
    flag, separator, value = text.partition("=") if text.startswith("--") else ("", "", text)
    for target, place in places.items():
        if value == target or value.startswith(f"{target}/"):
            return f"{flag}{separator}{place}{value[len(target) :]}"
    return text


def expected(container: Container) -> Iterator[tuple[str, Mount]]:
    """What has to lie on the machine, with its path there; not the cache, which fills itself."""
    for mount in container.mounts:
        if mount.kind in SERVED:
            yield f"{mount.source}/{mount.sub_path}".rstrip("/"), mount
        elif mount.target != CACHE_MOUNT:
            yield mount.target, mount


def wanted(places: Iterable[tuple[str, Mount]]) -> Iterator[str]:
    """What to put where, in words."""
    for place, mount in places:
        yield f"{place}: {mount.what}."
