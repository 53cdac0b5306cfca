"""The control group that a node's kubelet works below; cgroup v1 and v2."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from localcluster.errors import StartError

_PREFIX = "localcluster-"
_NEEDED = {"cpu", "cpuset", "memory", "pids"}


def name(network: int, node: str) -> str:
    """Unique on this machine by the cluster's network, and says whose it is."""
    return f"{_PREFIX}{os.getpid()}-{network}-{node}"


def hierarchies(mounts: str) -> tuple[int, list[Path]]:
    """The version that rules here and where its hierarchies are, from /proc/self/mounts. Pure."""
    found = [line.split()[1:4] for line in mounts.splitlines()]
    first = [(Path(where), options) for where, kind, options in found if kind == "cgroup"]
    if any("memory" in options.split(",") for _, options in first):
        return 1, [where for where, _ in first]
    return 2, [Path(where) for where, kind, _ in found if kind == "cgroup2"]


def all_hierarchies(mounts: str) -> list[Path]:
    """Those of both versions: beside v1, runtimes make groups in an empty v2 as well. Pure."""
    found = [line.split()[1:3] for line in mounts.splitlines()]
    return [Path(where) for where, kind in found if kind in ("cgroup", "cgroup2")]


def here() -> tuple[int, list[Path]]:
    """Those of this machine."""
    return hierarchies(_mounts())


def unavailable() -> str | None:
    """Why there can be no control groups here."""
    version, roots = here()
    if not roots:
        return "no control groups are mounted"
    if version == 2:
        there = set((roots[0] / "cgroup.controllers").read_text().split())
        if missing := _NEEDED - there:
            return f"{roots[0]} has no controller {', '.join(sorted(missing))}"
    closed = [root for root in roots if not os.access(root, os.W_OK)]
    return f"{closed[0]} may not be written" if closed else None


def create(group: str) -> None:
    """Makes the group, and removes those of owners that are gone. Raises StartError."""
    _sweep()
    version, roots = here()
    for root in roots:
        (root / group).mkdir(exist_ok=True)
        if version == 2:
            _hand_down(root)
            _hand_down(root / group)
        for file in ("cpuset.cpus", "cpuset.mems"):
            # v1 gives a new group none of them, and no process can be in it then.
            if version == 1 and (root / file).exists():
                (root / group / file).write_text((root / file).read_text())


def remove(group: str) -> None:
    """Removes it where its processes are gone."""
    for root in all_hierarchies(_mounts()):
        for folder in _deepest_first(root / group):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def _hand_down(group: Path) -> None:
    handed = group / "cgroup.subtree_control"
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # not every controller can be handed down
            handed.write_text(f"+{controller}")
    if missing := _NEEDED - set(handed.read_text().split()):
        raise StartError(
            f"a real node needs the control group controllers {', '.join(sorted(missing))}, and "
            f"{group} does not hand them down: is this a container that was not given them?"
        )


def _sweep() -> None:
    for root in all_hierarchies(_mounts()):
        for folder in root.glob(f"{_PREFIX}*"):
            owner = re.match(rf"{_PREFIX}(\d+)-", folder.name)
            if owner is not None and not Path("/proc", owner[1]).exists():
                remove(folder.name)


def _deepest_first(folder: Path) -> Iterator[Path]:
    for parent, _, _ in os.walk(folder, topdown=False):
        yield Path(parent)
