"""Labels, annotations and names that the operator puts on what it owns."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.base import PORT

SERVER_LABEL: Final = "vllm-operator.io/server"
"""On every child and pod, with the server's name: the operator watches nothing without it."""

TEMPLATE_LABEL: Final = "vllm-operator.io/template"
"""On every pod: of which plan's pod template it is, as ``TEMPLATE_HASH`` of its workload says."""

APPLIED_HASH: Final = "vllm-operator.io/applied-hash"
TEMPLATE_HASH: Final = "vllm-operator.io/template-hash"
WOKEN: Final = "vllm-operator.io/woken"
"""On a Deployment: copied to its ReplicaSet, whose controller then tries again at once."""
IN_PLACE_SINCE: Final = "vllm-operator.io/in-place-since"
"""On a workload whose pods are replaced in place: how many pods had a node then, and since when."""
TRIAL: Final = "vllm-operator.io/trial"
"""On a Deployment while a trial is held or ended: which one, and over what it began."""
ROLE: Final = "vllm-operator.io/role"
"""On the ControllerRevision of a trial."""
RETUNE_ANNOTATION: Final = "vllm-operator.io/retune"
"""On a server: tuning that was suspended looks again whenever its value changes."""
REPLAN_ANNOTATION: Final = "vllm-operator.io/replan"
FIELD_MANAGER: Final = "vllm-operator"


def selector(name: str) -> dict[str, str]:
    """The labels that select the pods of the server called ``name``."""
    return {SERVER_LABEL: name}


def serving(name: str) -> dict[str, str]:
    """The labels that select the pods of a server that answer requests."""
    return {**selector(name), "app.kubernetes.io/component": "engine"}


def object_labels(name: str) -> dict[str, str]:
    """The labels of every object of the server called ``name``, its pods included."""
    return {
        SERVER_LABEL: name,
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "engine",
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
    }


def endpoint(name: str, namespace: str) -> str:
    """Address inside the cluster of the OpenAI-compatible API."""
    return f"http://{name}.{namespace}.svc:{PORT}/v1"
