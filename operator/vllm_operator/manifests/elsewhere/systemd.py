"""A unit of systemd: vLLM as it is installed on the machine, without a container."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vllm_operator.manifests.planned import Planned

from .container import Container
from .devices import Devices
from .head import comments, figures, needs, untold
from .health import ANSWER_SECONDS, LOCAL, question
from .mounts import secrets
from .paths import expected, moved, moves, wanted
from .quoting import systemd_word
from .sizes import binary, percent
from .units import Entry, command, environment, introduced, restarting, unit

INSTALLED: Final = "/opt/vllm"
SEARCHED: Final = f"{INSTALLED}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def systemd(planned: Planned, container: Container, devices: Devices) -> str:
    """The unit, to be called ``vllm-NAME.service``."""
    head = comments(
        [
            *figures(planned),
            *needs(container, devices),
            *_usage(planned, container),
            *untold(planned, container, "systemd"),
        ]
    )
    sections = {
        "Unit": [
            *introduced(container, planned.plan.model.id),
            *(("AssertPathExists", place) for place, _ in expected(container)),
        ],
        "Service": _service(container, devices),
        "Install": [("WantedBy", "multi-user.target")],
    }
    return unit(head, sections)


def _usage(planned: Planned, container: Container) -> Iterator[str]:
    version = planned.plan.engine.version
    yield (
        f"Save as /etc/systemd/system/{_name(container)}.service, then systemctl daemon-reload and "
        f"systemctl enable --now {_name(container)}, which waits until it serves. It runs the "
        f"vllm of {INSTALLED}/bin, where version {version} has to be installed (PATH below), and "
        f"listens on this machine alone (--host). /dev/shm takes {binary(container.shared_memory)}."
    )
    if container.references:
        yield (
            f"Put into {_env_file(container)} (root's, mode 0600), as NAME='value' on lines of "
            f"their own: {secrets(container)}."
        )
    yield from wanted(expected(container))
    written = list(_written(container))
    if written and container.user is None:
        yield (
            f"The unit's user has to be able to write {', '.join(written)}: put User= with one who "
            "is in place of DynamicUser=."
        )


def _name(container: Container) -> str:
    return f"vllm-{container.name}"


def _env_file(container: Container) -> str:
    return f"/etc/vllm/{container.name}.env"


def _service(container: Container, devices: Devices) -> list[Entry]:
    places = moves(container, f"/var/cache/{_name(container)}")
    variables = {
        "PATH": SEARCHED,
        devices.variable: devices.listed,
        **{name: moved(value, places) for name, value in container.environment.items()},
    }
    program, verb, *arguments = (moved(text, places) for text in container.command)
    found: list[Entry] = [("Type", "exec"), *_user(container, devices)]
    found.append(("CacheDirectory", _name(container)))
    found += environment(variables, expands=False)
    if container.references:
        found.append(("EnvironmentFile", _env_file(container)))
    found += [
        ("ExecStart", command(["/usr/bin/env", program, verb], [*arguments, "--host", LOCAL])),
        ("ExecStartPost", _waiting(container)),
        *restarting(container),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("PrivateTmp", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "read-only"),
    ]
    found += [("ReadWritePaths", place) for place in _written(container)]
    if "memory" in container.limits:
        found.append(("MemoryMax", binary(container.limits["memory"]).upper().removesuffix("B")))
    if "cpu" in container.limits:
        found.append(("CPUQuota", percent(container.limits["cpu"])))
    return found


def _written(container: Container) -> Iterator[str]:
    places = moves(container, "")
    for mount in container.mounts:
        if not mount.read_only and mount.kind != "storage":
            yield places.get(mount.target, mount.target)


def _user(container: Container, devices: Devices) -> Iterator[Entry]:
    if container.user is None:
        yield "DynamicUser", "yes"
    else:
        user, _, group = container.user.partition(":")
        yield "User", user
        if group:
            yield "Group", group
    groups = [
        *(["video", "render"] if devices.vendor == "AMD" else []),
        *map(str, container.groups),
    ]
    if groups:
        yield "SupplementaryGroups", " ".join(groups)


def _waiting(container: Container) -> str:
    """Ends once the server answers, or with it: the start is over then, one way or the other."""
    script = (
        f"while kill -0 \"$MAINPID\"; do python3 -c '{question()}' 2>/dev/null && exit 0; "
        f"sleep {ANSWER_SECONDS}; done; exit 1"
    )
    return f"/bin/sh -c {systemd_word(script, expands=True)}"
