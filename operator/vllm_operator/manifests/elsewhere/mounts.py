"""What stands on one machine for the volumes of a pod, where a container engine mounts it."""

from __future__ import annotations

from collections.abc import Iterator

from .container import Container, Mount


def volume_name(mount: Mount) -> str | None:
    """Name of the engine's own volume that stands for a mount; None for a folder that is filled.

    A claim's folder has a volume of its own: an engine's volume is mounted whole.
    """
    if mount.kind == "storage" or (mount.kind == "claim" and not mount.read_only):
        return mount.place.replace("/", "-")
    return None


def folder(mount: Mount, root: str) -> str | None:
    """Folder of the machine that is mounted; ``root`` is where those lie that have to be filled."""
    if mount.kind == "folder":
        return mount.place
    is_filled = mount.kind == "files" or (mount.kind == "claim" and volume_name(mount) is None)
    return f"{root}/{mount.place}" if is_filled else None


def wanted(container: Container, root: str) -> Iterator[str]:
    """What has to be put where, and what keeps the cache, in words."""
    for mount in container.mounts:
        place, name = folder(mount, root), volume_name(mount)
        if name is not None:
            yield f"Volume {name} keeps {mount.what}."
        elif place is not None and mount.kind != "folder":
            yield f"Put into {place}, readable for the server's user: {mount.what}."
        elif place is not None:
            yield f"The folder {place} has to be there: {mount.what}."
    if container.user is not None:
        yield f"User {container.user} has to be able to write the cache."


def secrets(container: Container) -> str:
    """The variables whose values are nowhere here, and what they are."""
    return "; ".join(f"{one.variable}, {one}" for one in container.references)
