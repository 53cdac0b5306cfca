"""What surrounds a container: its pod's place on this machine, its variables, its programs."""

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from localcluster.agent.events import Recorder
from localcluster.agent.images import Image
from localcluster.agent.inputs import Inputs
from localcluster.agent.runtime import Runtime
from localcluster.agent.settings import Settings
from localcluster.agent.substitution import Substitution, expand

Object = dict[str, Any]
_SUFFIXES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class Place:
    """What the containers of a pod share."""

    settings: Settings
    runtime: Runtime
    recorder: Recorder
    inputs: Inputs
    pod: Object
    address: str
    directory: Path  # of the pod, goes with it
    volumes: dict[str, Path]
    changed: Callable[[], None]  # to be called when a container's status has changed

    @property
    def clock(self) -> float:
        """Seconds of a kubelet's clock, see Settings.speed."""
        return time.monotonic() * self.settings.speed

    async def wait(self, seconds: float) -> None:
        """Seconds of that clock."""
        await asyncio.sleep(seconds / self.settings.speed)

    def log_name(self, container: str, restarts: int) -> str:
        """Where a container's output goes, below the log directory."""
        metadata = self.pod["metadata"]
        folder = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return f"{folder}/{container}/{restarts}"


async def environment(
    place: Place, spec: Object, image: Image, message_file: Path
) -> tuple[dict[str, str], Substitution]:
    """A container's variables, and what its texts become. Raises Missing."""
    mounts = {spec.get("terminationMessagePath", "/dev/termination-log"): str(message_file)}
    for mount in spec.get("volumeMounts") or []:
        directory = place.volumes[mount["name"]] / mount.get("subPath", "")
        if not directory.exists():
            directory.mkdir(parents=True)
        mounts[mount["mountPath"]] = str(directory)
    substitute = Substitution(mounts, place.address)
    # What the image brings, then what says where the container is; a pod may overrule both.
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(place.directory),
        "TMPDIR": mounts.get("/tmp", str(place.directory)),
        **image.environment,
        "HOSTNAME": place.pod["metadata"]["name"],
        "LOCALCLUSTER_IMAGE": spec["image"],
        "LOCALCLUSTER_POD_IP": place.address,
    }
    variables |= await place.inputs.bulk(spec.get("envFrom") or [])
    for variable in spec.get("env") or []:
        if "valueFrom" in variable:
            value = await place.inputs.variable(variable["valueFrom"], spec)
            if value is None:
                continue
        else:
            value = substitute(expand(variable.get("value", ""), variables))
        variables[variable["name"]] = value
    return variables, substitute


def resolved(command: list[str], image: Image, path: str, address: str) -> list[str]:
    """The command with this machine's program. Raises FileNotFoundError with the name."""
    if not command:
        raise FileNotFoundError("")
    program, *arguments = command
    if program in image.programs:
        if program == "vllm" and arguments[:1] == ["serve"]:
            arguments += ["--host", address]
        return [*image.programs[program], *arguments]
    found = shutil.which(program, path=path)
    if found is None:
        raise FileNotFoundError(program)
    return [found, *arguments]


def quantity(text: str) -> int:
    """Bytes of a quantity of memory."""
    for suffix, factor in (_BINARY | _SUFFIXES).items():
        if text.endswith(suffix):
            return int(Decimal(text.removesuffix(suffix)) * factor)
    return int(Decimal(text))
