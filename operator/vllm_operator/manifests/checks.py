"""What must hold of every rendered object, whatever the specification said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.errors import IllegalPin


def check_pod(template: Mapping[str, Any], host_path: str | None) -> None:
    """Raise where a rendered pod template breaks a promise.

    ``host_path`` is the folder of the node that the specification names, if any.

    Raises IllegalPin for what a specification can cause (two variables of one name), and
    AssertionError for what only a broken template can.
    """
    pod = template["spec"]
    (container,) = pod["containers"]
    seen: set[str] = set()
    for variable in container["env"]:
        name = variable["name"]
        if name in seen:
            raise IllegalPin(
                f"spec.engine.env[{name}]",
                f"{name} is set twice, by the operator and by the manifest; remove it",
            )
        seen.add(name)
    if not all(isinstance(argument, str) for argument in container["command"]):
        raise AssertionError("an argument of the command is not a string")
    if pod["automountServiceAccountToken"] or pod["enableServiceLinks"]:
        raise AssertionError("the pod would get a token or service links")
    if "serviceAccountName" in pod:
        raise AssertionError("the pod would get an account")
    folders = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
    if folders != ([] if host_path is None else [host_path]):
        raise AssertionError("the pod would get a folder of the node that nobody asked for")
    requested = container["resources"]["requests"]
    for name, amount in container["resources"]["limits"].items():
        if "/" in name and requested.get(name) != amount:
            raise AssertionError(f"requests and limits of {name} differ")
