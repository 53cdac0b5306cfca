"""What must hold of every rendered object, whatever the specification said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.api.pod import PodSpec
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.errors import IllegalPin
from vllm_operator.sizing.asked.storage import volume_of


def check_pod(template: Mapping[str, Any], spec: VLLMServerSpec) -> None:
    """Raise where a rendered pod template breaks a promise.

    Raises IllegalPin for what a specification can cause (two variables of one name), and
    AssertionError for what only a broken template can.
    """
    pod = template["spec"]
    container, *others = pod["containers"]
    for one in (container, *others, *pod.get("initContainers", [])):
        context = one["securityContext"]
        if context["allowPrivilegeEscalation"] or context["capabilities"] != {"drop": ["ALL"]}:
            raise AssertionError("a container would be privileged")
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
    asked, volume = spec.pod or PodSpec(), volume_of(spec)
    token = bool(asked.automount_service_account_token)
    if pod["automountServiceAccountToken"] != token or pod["enableServiceLinks"]:
        raise AssertionError("the pod would get a token or service links")
    accounts = {pod.get("serviceAccountName"), pod.get("serviceAccount")}
    if accounts != {asked.service_account_name}:
        raise AssertionError("the pod would get an account")
    host_path = volume.source if volume.kind == "HostPath" else None
    folders = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
    if folders != ([] if host_path is None else [host_path]):
        raise AssertionError("the pod would get a folder of the node that nobody asked for")
    requested = container["resources"]["requests"]
    for name, amount in container["resources"]["limits"].items():
        if "/" in name and requested.get(name) != amount:
            raise AssertionError(f"requests and limits of {name} differ")
