"""The values of the pod template: what follows from the specification and the plan."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vllm_operator.api.base import PORT, PORT_NAME
from vllm_operator.api.plan import Plan, PlannedStorage
from vllm_operator.api.pod import Identity, PodSpec
from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.api.v1alpha1 import DEFAULT_DRAIN_SECONDS, VLLMServerSpec
from vllm_operator.errors import IllegalPin
from vllm_operator.hardware import catalogue, clouds
from vllm_operator.hardware.nodes import SHARED_SUFFIX, GPUOffer, own_labels
from vllm_operator.sizing.asked.storage import volume_of

from . import labels as names
from .companions import companions, from_secret, init_containers, user_variable
from .probes import DEFAULT_LIVENESS_BUDGET_SECONDS, probes
from .security import container_security_context, pod_security_context
from .stopping import grace_seconds, pre_stop
from .volumes import volume_mounts, volumes

Expression = dict[str, Any]
"""A match expression of a node selector term."""

DEFAULT_SURGE_TIMEOUT_SECONDS: Final = 120
PROGRESS_MARGIN_SECONDS: Final = 300
"""Image pull and scheduling, which the startup probe does not see and the deadline does."""

DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
"""Which container ``kubectl logs`` and ``exec`` mean where a pod has several."""

DISK: Final = "ephemeral-storage"
AFFINITY: Final = "spec.pod.affinity"
OF_ANY_NODE: Final = ("kubernetes.io/arch", "kubernetes.io/os", "topology.kubernetes.io/")
"""Labels by which a node selector says nothing of the GPU."""
REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def pod_values(
    spec: VLLMServerSpec, plan: Plan, gpu: GPUOffer, server_name: str, identity: Identity
) -> dict[str, Any]:
    """Values for the pod template of one node, in Kubernetes' own shapes."""
    pod = spec.pod or PodSpec()
    drain = drain_seconds(spec)
    budget = math.ceil(plan.startup.budget_seconds)
    gpus = plan.placement.gpus_per_replica // plan.placement.nodes
    return {
        "pod_labels": {**(pod.labels or {}), **names.object_labels(server_name)},
        "pod_annotations": {DEFAULT_CONTAINER: ENGINE, **(pod.annotations or {})},
        "termination_grace_period_seconds": grace_seconds(drain),
        "lifecycle": {"preStop": pre_stop(plan.engine.version, PORT, drain)},
        "init_containers": init_containers(pod),
        "companions": companions(pod),
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        **probes(plan.engine.version, PORT, budget, liveness_budget_seconds(spec)),
        "security_context": pod_security_context(pod, identity),
        "container_security_context": container_security_context(pod),
        "service_account_name": pod.service_account_name,
        "token": bool(pod.automount_service_account_token),
        "scheduler_name": pod.scheduler_name,
        "affinity": with_gpu_nodes(pod.affinity, gpu_nodes(spec, gpu)),
        "node_selector": pod.node_selector or None,
        "tolerations": _tolerations(pod, gpu.resource_name),
        "topology_spread_constraints": _spread(pod, server_name),
        "priority_class_name": pod.priority_class_name,
        "runtime_class_name": pod.runtime_class_name,
        "image_pull_secrets": [
            {"name": reference.name} for reference in pod.image_pull_secrets or []
        ]
        or None,
        "image": plan.engine.image,
        "command": list(plan.engine.command),
        "env": _environment(spec, plan),
        "resources": _resources(pod, gpu.resource_name, gpus, plan.storage),
        "volume_mounts": volume_mounts(volume_of(spec), pod),
        "volumes": volumes(spec, volume_of(spec), plan.storage, pod, gpus),
    }


def progress_deadline_seconds(spec: VLLMServerSpec, plan: Plan) -> int:
    """Seconds without progress after which a rollout counts as stuck: longer than a start."""
    budget = math.ceil(plan.startup.budget_seconds)
    return budget + drain_seconds(spec) + surge_timeout_seconds(spec) + PROGRESS_MARGIN_SECONDS


def drain_seconds(spec: VLLMServerSpec) -> int:
    """Seconds that a stopping pod may finish its requests."""
    given = spec.rollout.drain_seconds if spec.rollout else None
    return DEFAULT_DRAIN_SECONDS if given is None else given


def liveness_budget_seconds(spec: VLLMServerSpec) -> int:
    """Seconds that an engine may neither answer nor move before it is restarted."""
    given = spec.rollout.liveness_budget_seconds if spec.rollout else None
    return DEFAULT_LIVENESS_BUDGET_SECONDS if given is None else given


def surge_timeout_seconds(spec: VLLMServerSpec) -> int:
    """Seconds that a surge pod may stay unschedulable before the rollout goes on in place."""
    given = spec.rollout.surge_timeout_seconds if spec.rollout else None
    return DEFAULT_SURGE_TIMEOUT_SECONDS if given is None else given


def gpu_nodes(spec: VLLMServerSpec, gpu: GPUOffer) -> list[list[Expression]]:
    """Match expressions of the nodes that hold the GPU: alternatives, one for each label.

    Where no label says which GPU a node has, the user's own selection may: it counts where the
    product is named too, and where it selects by more than place and processor.
    """
    own = own_labels(gpu.node_labels)
    labels = sorted(gpu.node_labels.items(), key=lambda one: (one[0] not in own, one[0]))
    found = [
        [{"key": key, "operator": "In", "values": sorted(values)}, *_beside(key, gpu.node_labels)]
        for key, values in labels
    ]
    found += _shared_pools(gpu, own)
    selector = (spec.pod.node_selector if spec.pod else None) or {}
    decides = any(not key.startswith(OF_ANY_NODE) for key in selector)
    if decides and spec.gpu and spec.gpu.product and own:
        found.append(
            [{"key": key, "operator": "DoesNotExist"} for key in own] + _not_another(gpu, own)
        )
    return found


def _shared_pools(gpu: GPUOffer, own: Sequence[str]) -> list[list[Expression]]:
    """Nodes that only a cloud's labels say to share the GPU, where a share of it is asked for."""
    card = catalogue.find(gpu.product.removesuffix(SHARED_SUFFIX))
    if card is None or not gpu.product.endswith(SHARED_SUFFIX):
        return []
    unsaid = [{"key": key, "operator": "DoesNotExist"} for key in own]
    return [
        [{"key": label, "operator": "In", "values": sorted(values)}, *unsaid, part.present()]
        for label, values in sorted(clouds.labels_of(card.label_values).items())
        for part in clouds.parts(label)
        if part.is_shared
    ]


def _not_another(gpu: GPUOffer, own: Sequence[str]) -> list[Expression]:
    """What a node without a vendor's label must not say: that it has another product."""
    known = catalogue.find(gpu.product.removesuffix(SHARED_SUFFIX))
    products = {value for key in own for value in gpu.node_labels.get(key, ())}
    others = clouds.other_values(products.union(known.label_values if known else ()))
    return [
        {"key": key, "operator": "NotIn", "values": list(values)}
        for key, values in sorted(others.items())
    ]


def _beside(label: str, labels: Mapping[str, Any]) -> list[Expression]:
    """What a node must not say beside a cloud's label: feature discovery knows better."""
    own = own_labels(labels)
    if label in own:
        return []
    unsaid = ({"key": key, "operator": "DoesNotExist"} for key in own)
    return [*unsaid, *(part.absent() for part in clouds.parts(label))]


def with_gpu_nodes(
    affinity: Mapping[str, Any] | None, alternatives: Sequence[Sequence[Expression]]
) -> dict[str, Any]:
    """The user's affinity, each of its node terms narrowed to the nodes that hold the GPU.

    Node selector terms are alternatives, so every one of them is narrowed in every way. Raises
    IllegalPin where the free-form affinity is not shaped like one.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(affinity or {}))
    if not alternatives:
        return merged
    node = _member(merged, "nodeAffinity", AFFINITY)
    required = _member(node, REQUIRED, f"{AFFINITY}.nodeAffinity")
    terms = required.get("nodeSelectorTerms") or [{}]
    where = f"{AFFINITY}.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
    if not isinstance(terms, list) or not all(isinstance(term, Mapping) for term in terms):
        raise IllegalPin(where, "must be a list of node selector terms")
    if not all(isinstance(term.get("matchExpressions") or [], list) for term in terms):
        raise IllegalPin(where, "matchExpressions must be a list")
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *expressions]}
        for term in terms
        for expressions in alternatives
    ]
    return merged


def _member(parent: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """A member of a free-form object, made where it is missing."""
    member = parent.get(name)
    if member is None:
        member = parent[name] = {}
    if not isinstance(member, dict):
        raise IllegalPin(f"{path}.{name}", f"must be an object, and is a {type(member).__name__}")
    return member


def _tolerations(pod: PodSpec, resource_name: str) -> list[dict[str, Any]]:
    own = {"key": resource_name, "operator": "Exists", "effect": "NoSchedule"}
    return [own, *(toleration.to_json_object() for toleration in pod.tolerations or [])]


def _spread(pod: PodSpec, server_name: str) -> list[dict[str, Any]] | None:
    return [
        {
            **constraint.to_json_object(),
            "labelSelector": {"matchLabels": names.selector(server_name)},
        }
        for constraint in pod.topology_spread_constraints or []
    ] or None


def _environment(spec: VLLMServerSpec, plan: Plan) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in sorted(plan.engine.env.items())
    ]
    if spec.model.token_secret_ref is not None:
        variables.append(from_secret("HF_TOKEN", spec.model.token_secret_ref))
    engine = spec.engine
    if engine is not None and engine.api_key_secret_ref is not None:
        variables.append(from_secret("VLLM_API_KEY", engine.api_key_secret_ref))
    variables.extend(user_variable(variable) for variable in (engine and engine.env) or [])
    return variables


def _resources(
    pod: PodSpec, resource_name: str, gpus: int, storage: PlannedStorage
) -> dict[str, Any]:
    """GPU limits, and what the engine's container asks for."""
    limits: dict[str, Any] = dict((pod.resources.limits if pod.resources else None) or {})
    gpu = {resource_name: str(gpus)}
    return {"requests": {**requests(pod, gpus, storage), **gpu}, "limits": {**limits, **gpu}}


def requests(pod: PodSpec, gpus: int, storage: PlannedStorage) -> dict[str, Any]:
    """What the engine's container asks for beside GPUs, as Kubernetes' quantities: CPU and memory
    for one worker process a GPU, and disk.

    Two cores a GPU and two for the API server; 8 GiB a GPU and 8 for the server: weights are mapped
    from files, so the page cache holds them and not the container, unless they are streamed through
    buffers of its own. The node's disk holds them where no volume does.
    """
    bytes_of_disk = storage.disk_bytes
    disk = {} if bytes_of_disk is None else {DISK: f"{bytes_of_disk // GIBIBYTE}Gi"}
    buffers = math.ceil((storage.buffer_bytes or 0) / GIBIBYTE)
    given = pod.resources
    return {
        "cpu": str(2 + 2 * gpus),
        "memory": f"{8 + 8 * gpus + buffers}Gi",
        **disk,
        # A request above its limit would be refused.
        **((given.limits if given else None) or {}),
        **((given.requests if given else None) or {}),
    }
