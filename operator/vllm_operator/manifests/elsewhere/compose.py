"""A compose file (compose-spec): the server's container by Docker Compose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from vllm_operator.api.base import PORT
from vllm_operator.manifests.planned import Planned

from .container import TEMPORARY, Container, Mount
from .devices import AMD_NODES, Devices
from .head import comments, figures, needs, untold
from .health import ANSWER_SECONDS, LOCAL, PERIOD_SECONDS, question
from .mounts import folder, secrets, volume_name, wanted
from .quoting import as_yaml, interpolated
from .sizes import binary, cores

BESIDE: Final = "."
"""Where the file itself lies."""
READY_FAILURES: Final = 3
"""Looks without an answer after which a container counts as unhealthy."""


def compose(planned: Planned, container: Container, devices: Devices) -> str:
    """The file, to be called ``compose.yaml``."""
    head = comments([*figures(planned), *needs(container, devices), *_usage(container)])
    left = comments(untold(planned, container, "compose"))
    return f"{head}{left}{as_yaml(interpolated(_document(container, devices)))}"


def _usage(container: Container) -> Iterator[str]:
    yield (
        "Save as compose.yaml; docker compose up --detach --wait starts it and waits until it "
        "serves (Docker Compose 2.24 or newer). It listens on this machine alone: for others, put "
        f"{PORT}:{PORT} into ports, behind something that checks who asks."
    )
    if container.references:
        yield (
            f"Put into {_env_file(container)} (mode 0600), as NAME='value' on lines of their own: "
            f"{secrets(container)}."
        )
    yield from wanted(container, BESIDE)


def _env_file(container: Container) -> str:
    return f"{BESIDE}/{container.name}.env"


def _document(container: Container, devices: Devices) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": container.name,
        "services": {container.name: _service(container, devices)},
    }
    names = filter(None, map(volume_name, container.mounts))
    # Without a name of its own a volume is this project's, and no other server finds it.
    kept = {name: {"name": name} for name in names}
    return {**document, "volumes": kept} if kept else document


def _service(container: Container, devices: Devices) -> dict[str, Any]:
    program, *arguments = container.command
    environment = dict(container.environment)
    service: dict[str, Any] = {
        "image": container.image,
        "entrypoint": [program],
        "command": arguments,
        "environment": environment,
    }
    if container.references:
        service["env_file"] = [{"path": _env_file(container), "required": True}]
    service["ports"] = [f"{LOCAL}:{PORT}:{PORT}"]
    service["volumes"] = [_volume(mount) for mount in container.mounts]
    # Docker mounts it noexec, and kernels that are compiled there are loaded from there.
    service["tmpfs"] = [f"{TEMPORARY}:exec,mode=1777"]
    service["shm_size"] = binary(container.shared_memory)
    service["read_only"] = container.read_only
    service["cap_drop"] = ["ALL"]
    service["security_opt"] = ["no-new-privileges:true"]
    if container.user is not None:
        service["user"] = container.user
    groups = [str(group) for group in container.groups]
    if devices.vendor == "AMD":
        environment[devices.variable] = devices.listed
        service["devices"] = [f"{node}:{node}" for node in AMD_NODES]
        groups = ["video", *groups]
    if groups:
        service["group_add"] = groups
    resources = _resources(container, devices)
    if resources:
        service["deploy"] = {"resources": resources}
    service["healthcheck"] = {
        "test": ["CMD", "python3", "-c", question()],
        "interval": f"{PERIOD_SECONDS}s",
        "timeout": f"{2 * ANSWER_SECONDS}s",
        "retries": READY_FAILURES,
        "start_period": f"{container.start_seconds}s",
    }
    service["restart"] = "unless-stopped"
    service["stop_grace_period"] = f"{container.stop_seconds}s"
    return service


def _resources(container: Container, devices: Devices) -> dict[str, Any]:
    found: dict[str, Any] = {}
    limits = {}
    if "cpu" in container.limits:
        limits["cpus"] = cores(container.limits["cpu"])
    if "memory" in container.limits:
        limits["memory"] = binary(container.limits["memory"])
    if limits:
        found["limits"] = limits
    if devices.vendor == "NVIDIA":
        found["reservations"] = {
            "devices": [
                {"driver": "nvidia", "device_ids": list(devices.ids), "capabilities": ["gpu"]}
            ]
        }
    return found


def _volume(mount: Mount) -> dict[str, Any]:
    """A mount in the long form."""
    only = {"read_only": True} if mount.read_only else {}
    name, place = volume_name(mount), folder(mount, BESIDE)
    if name is not None:
        return {"type": "volume", "source": name, "target": mount.target}
    if place is not None:
        # Docker would make a folder that is not there, empty and root's.
        made = {"bind": {"create_host_path": False}}
        return {"type": "bind", "source": place, "target": mount.target, **only, **made}
    if mount.kind == "image":
        return {"type": "image", "source": mount.source, "target": mount.target}
    kind = "tmpfs" if mount.kind == "memory" else "volume"
    return {"type": kind, "target": mount.target}
