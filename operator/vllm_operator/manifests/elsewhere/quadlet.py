"""A unit of podman's quadlet: the server's container under systemd (podman-systemd.unit(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vllm_operator.api.base import PORT
from vllm_operator.errors import IllegalPin
from vllm_operator.manifests.planned import Planned

from .container import TEMPORARY, Container, Mount, Reference
from .devices import AMD_NODES, Devices
from .head import comments, figures, needs, untold
from .health import ANSWER_SECONDS, LOCAL, PERIOD_SECONDS, looks, question
from .mounts import folder, volume_name, wanted
from .quoting import systemd_raw
from .sizes import binary, cores
from .units import Entry, command, environment, introduced, restarting, unit

CDI_KIND: Final = "nvidia.com/gpu"
"""As ``nvidia-ctk cdi generate`` names NVIDIA's devices (Container Device Interface)."""


STOP_MARGIN_SECONDS: Final = 10
"""That systemd waits longer than podman, which stops the container in its time."""


def quadlet(planned: Planned, container: Container, devices: Devices) -> str:
    """The unit, to be called ``vllm-NAME.container``.

    Raises IllegalPin for an empty argument, which the generator takes for the end of the command
    (podman ``pkg/systemd/parser/split.go``, ``extractFirstWord``).
    """
    if "" in container.command:
        raise IllegalPin(
            "spec.engine.extraArgs",
            "holds an empty argument, after which podman's generator reads no more; give it with "
            "its flag in one entry (--flag=)",
        )
    head = comments(
        [
            *figures(planned),
            *needs(container, devices),
            *_usage(container, devices),
            *untold(planned, container, "podman-quadlet"),
        ]
    )
    sections = {
        "Unit": introduced(container, planned.plan.model.id),
        "Container": _container(container, devices),
        "Service": restarting(container, margin=STOP_MARGIN_SECONDS),
        "Install": [("WantedBy", "multi-user.target default.target")],
    }
    return unit(head, sections)


def _usage(container: Container, devices: Devices) -> Iterator[str]:
    name = f"vllm-{container.name}"
    yield (
        f"Save as /etc/containers/systemd/{name}.container, or as a user in "
        f"~/.config/containers/systemd, then systemctl daemon-reload and systemctl start {name}, "
        "which waits until it serves (keys as of podman 5.6). It listens on this machine alone: "
        f"for others, put {PORT}:{PORT} into PublishPort, behind something that checks who asks."
    )
    if devices.vendor == "NVIDIA":
        yield (
            "The GPUs are named as the Container Device Interface does: once, nvidia-ctk cdi "
            "generate --output=/etc/cdi/nvidia.yaml."
        )
    for one in container.references:
        yield f"podman secret create {_secret(one)} FILE, for {one.variable}: {one}."
    yield from wanted(container, _root(container))


def _root(container: Container) -> str:
    return f"/srv/vllm/{container.name}"


def _secret(reference: Reference) -> str:
    return f"{reference.name}.{reference.key}"


def _container(container: Container, devices: Devices) -> list[Entry]:
    program, *arguments = container.command
    variables = dict(container.environment)
    if devices.vendor == "AMD":
        variables[devices.variable] = devices.listed
    return [
        ("ContainerName", f"vllm-{container.name}"),
        ("Image", systemd_raw(container.image)),
        ("Entrypoint", systemd_raw(program)),
        ("Exec", command([], arguments)),
        *environment(variables, expands=True),
        *(
            ("Secret", f"{_secret(one)},type=env,target={one.variable}")
            for one in container.references
        ),
        *(("AddDevice", device) for device in _devices(devices)),
        ("PublishPort", f"{LOCAL}:{PORT}:{PORT}"),
        *(_mounted(container, mount) for mount in container.mounts),
        ("Tmpfs", f"{TEMPORARY}:rw,exec,mode=1777"),
        ("ShmSize", binary(container.shared_memory)),
        ("ReadOnly", "true" if container.read_only else "false"),
        ("NoNewPrivileges", "true"),
        ("DropCapability", "all"),
        *_user(container, devices),
        *_limits(container),
        ("HealthCmd", systemd_raw(f"python3 -c '{question()}'")),
        ("HealthInterval", f"{PERIOD_SECONDS}s"),
        ("HealthTimeout", f"{2 * ANSWER_SECONDS}s"),
        ("HealthRetries", f"{looks(container.silence_seconds)}"),
        ("HealthStartPeriod", f"{container.start_seconds}s"),
        ("HealthOnFailure", "kill"),
        ("Notify", "healthy"),
        ("StopTimeout", f"{container.stop_seconds}"),
    ]


def _devices(devices: Devices) -> list[str]:
    if devices.vendor == "AMD":
        return list(AMD_NODES)
    return [f"{CDI_KIND}={one}" for one in devices.ids]


def _user(container: Container, devices: Devices) -> Iterator[Entry]:
    if container.user is not None:
        user, _, group = container.user.partition(":")
        yield "User", user
        if group:
            yield "Group", group
    groups = [*(["video"] if devices.vendor == "AMD" else []), *map(str, container.groups)]
    for group in groups:
        yield "PodmanArgs", f"--group-add={group}"


def _limits(container: Container) -> Iterator[Entry]:
    if "memory" in container.limits:
        yield "PodmanArgs", f"--memory={binary(container.limits['memory'])}"
    if "cpu" in container.limits:
        yield "PodmanArgs", f"--cpus={cores(container.limits['cpu'])}"


def _mounted(container: Container, mount: Mount) -> Entry:
    name, place = volume_name(mount), folder(mount, _root(container))
    if name is not None:
        return "Volume", f"{name}:{mount.target}"
    if place is not None:
        # What lies there was made for it, and may be labelled for SELinux; not a folder of others.
        options = [*(["ro"] if mount.read_only else []), *(["z"] if mount.kind != "folder" else [])]
        return "Volume", ":".join([place, mount.target, *([",".join(options)] if options else [])])
    if mount.kind == "image":
        return "Mount", f"type=image,source={mount.source},destination={mount.target}"
    if mount.kind == "memory":
        return "Tmpfs", mount.target
    return "Volume", mount.target
