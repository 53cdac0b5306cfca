"""The engine's container, read off the rendered pod template: no target decides what runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.api.quantity import parse_quantity
from vllm_operator.manifests.planned import Planned
from vllm_operator.manifests.pod import liveness_budget_seconds
from vllm_operator.manifests.volumes import CACHE_MOUNT

from .expansion import expanded

Object = Mapping[str, Any]
Kind = Literal["storage", "claim", "folder", "files", "image", "memory", "scratch"]
"""``storage`` (of the cache) and ``claim`` are kept between starts, ``folder`` is the machine's,
``files`` are keys of a ConfigMap or Secret, ``image`` an OCI image; ``memory`` and ``scratch`` are
empty."""

TEMPORARY: Final = "/tmp"
SHARED_MEMORY: Final = "/dev/shm"
WHAT: Final = {"model": "the checkpoint", "cache": "what is downloaded"}
"""By name of the operator's own volumes."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable whose value is not in the manifest."""

    variable: str
    kind: Literal["Secret", "ConfigMap"]
    name: str
    key: str

    def __str__(self) -> str:
        return f"the key {self.key} of {self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Mount:
    """What the engine finds at a path."""

    target: str
    kind: Kind
    source: str
    """Name of the claim, ConfigMap or Secret, folder of the machine, or image."""
    read_only: bool
    what: str
    """In words, for who has to put it there."""
    sub_path: str = ""
    limit: str | None = None

    @property
    def place(self) -> str:
        """Source and folder in it, as a relative path."""
        return f"{self.source}/{self.sub_path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Container:
    """What runs and what it needs; times in seconds, sizes in bytes."""

    name: str
    image: str
    command: tuple[str, ...]
    """Program and arguments."""
    environment: Mapping[str, str]
    references: tuple[Reference, ...]
    mounts: tuple[Mount, ...]
    """But for /tmp and /dev/shm, which every target has in its own way."""
    shared_memory: int
    start_seconds: int
    """After which a start has failed."""
    silence_seconds: int
    """That the port may be without an answer."""
    stop_seconds: int
    """Between the order to stop and the kill."""
    drains: bool
    """Whether the engine ends its requests by itself when it is told to stop."""
    user: str | None
    """``user`` or ``user:group``; None: the target's or the image's own."""
    groups: tuple[int, ...]
    read_only: bool
    limits: Mapping[str, str]
    """Quantities of cpu and memory."""
    requests: Mapping[str, str]


def container_of(planned: Planned) -> Container:
    """The container of one replica on one node.

    Raises IllegalPin where a text of it needs a value that is in no manifest.
    """
    pod = planned.objects[0]["spec"]["template"]["spec"]
    engine = next(one for one in pod["containers"] if one["name"] == ENGINE)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    startup, security = engine["startupProbe"], pod["securityContext"]
    resources = engine["resources"]
    environment = _environment(engine["env"])
    references = tuple(_reference(one) for one in engine["env"] if "value" not in one)
    secret = [one.variable for one in references]
    return Container(
        name=planned.server.metadata.name,
        image=engine["image"],
        command=tuple(
            expanded(text, environment, secret, "spec.engine.extraArgs")
            for text in engine["command"]
        ),
        environment=environment,
        references=references,
        mounts=tuple(_mounts(planned.server.metadata.name, engine["volumeMounts"], volumes)),
        shared_memory=int(parse_quantity(volumes["shm"]["emptyDir"]["sizeLimit"])),
        start_seconds=startup["periodSeconds"] * startup["failureThreshold"],
        silence_seconds=liveness_budget_seconds(planned.server.spec),
        stop_seconds=pod["terminationGracePeriodSeconds"],
        drains="sleep" in engine["lifecycle"]["preStop"],
        user=_user(security),
        groups=tuple(security.get("supplementalGroups", ())),
        read_only=engine["securityContext"]["readOnlyRootFilesystem"],
        limits=_computing(resources["limits"]),
        requests=_computing(resources["requests"]),
    )


def _environment(variables: list[Object]) -> dict[str, str]:
    """Values by name; of other variables, one takes those that stand before it."""
    found: dict[str, str] = {}
    secret: list[str] = []
    for one in variables:
        if "value" in one:
            found[one["name"]] = expanded(one["value"], found, secret, "spec.engine.env")
        else:
            secret.append(one["name"])
    return found


def _computing(amounts: Object) -> Mapping[str, str]:
    return {name: str(amounts[name]) for name in ("cpu", "memory") if name in amounts}


def _user(security: Object) -> str | None:
    user, group = security.get("runAsUser"), security.get("runAsGroup")
    if user is None:
        return None
    return f"{user}" if group is None else f"{user}:{group}"


def _reference(variable: Object) -> Reference:
    ((kind, found),) = variable["valueFrom"].items()
    named: Literal["Secret", "ConfigMap"] = "Secret" if kind == "secretKeyRef" else "ConfigMap"
    return Reference(variable["name"], named, found["name"], found["key"])


def _mounts(server: str, mounts: list[Object], volumes: Mapping[str, Object]) -> Iterator[Mount]:
    for mount in mounts:
        if mount["mountPath"] not in (TEMPORARY, SHARED_MEMORY):
            yield _mount(server, mount, volumes[mount["name"]])


def _mount(server: str, mount: Object, volume: Object) -> Mount:
    target, sub_path = mount["mountPath"], mount.get("subPath", "")
    read_only = bool(mount.get("readOnly"))
    kind: Kind
    what = WHAT.get(volume["name"], "what the engine looks for there")
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]
        name = claim["claimName"]
        read_only = read_only or bool(claim.get("readOnly"))
        sub_path = sub_path.strip("/")
        kind = "storage" if target == CACHE_MOUNT else "claim"
        return Mount(target, kind, name, read_only, f"{what}, from claim {name}", sub_path)
    if "hostPath" in volume:
        source = volume["hostPath"]["path"]
        return Mount(target, "folder", source, read_only, what, sub_path)
    if "image" in volume:
        source = volume["image"]["reference"]
        return Mount(target, "image", source, True, f"{what}, in image {source}", sub_path)
    if "configMap" in volume or "secret" in volume:
        return _files(mount, volume)
    if target == CACHE_MOUNT:
        return Mount(target, "storage", f"{server}-cache", read_only, "what is downloaded")
    empty = volume["emptyDir"]
    kind = "memory" if empty.get("medium") == "Memory" else "scratch"
    return Mount(target, kind, volume["name"], read_only, "an empty folder", sub_path)


def _files(mount: Object, volume: Object) -> Mount:
    """Keys of a ConfigMap or Secret: one file each."""
    object_kind = "ConfigMap" if "configMap" in volume else "Secret"
    given = volume["configMap" if object_kind == "ConfigMap" else "secret"]
    name = given["name" if object_kind == "ConfigMap" else "secretName"]
    items = [f"{one['key']} as {one['path']}" for one in given.get("items") or []]
    what = f"the keys of {object_kind} {name} as files"
    if items:
        what = f"of {object_kind} {name}, the keys {', '.join(items)}"
    return Mount(mount["mountPath"], "files", name, True, what, mount.get("subPath", ""))
