"""Who pods are and what they may: what restricted Pod Security wants, and what may be chosen."""

from __future__ import annotations

from typing import Any, Final

from vllm_operator.api.pod import Identity, PodSpec, SecurityContext

RUN_AS: Final = 65532
"""An unprivileged user that no image defines; USER and HOME are set, so nothing looks it up."""

Object = dict[str, Any]


def pod_security_context(pod: PodSpec, identity: Identity) -> Object:
    """Of the whole pod; ``identity`` is that of pods that say nothing of it."""
    given = pod.security_context or SecurityContext()
    own = RUN_AS if (pod.identity or identity) == "Fixed" else None
    return {
        "runAsNonRoot": True,
        "runAsUser": own if given.run_as_user is None else given.run_as_user,
        "runAsGroup": own if given.run_as_group is None else given.run_as_group,
        "fsGroup": own if given.fs_group is None else given.fs_group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "supplementalGroups": given.supplemental_groups or None,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context(pod: PodSpec) -> Object:
    """Of each container."""
    given = pod.security_context
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": given is None or given.read_only_root_filesystem is not False,
    }
