"""Objects of a planned server: a template an object, values as JSON, then checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import jinja2

from vllm_operator.api.base import API_VERSION, KIND, PORT
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.pod import Identity, PodSpec
from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.hardware.nodes import GPUOffer

from . import labels as names
from .checks import check_pod
from .groups import leader_values, worker_values
from .pod import pod_values, progress_deadline_seconds

SURGE = {"maxSurge": 1, "maxUnavailable": 0}
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}

TEMPLATE_HASH_VERSION: Final = "1"
"""Bumped when the way of hashing changes, so that an old hash is never compared with a new one."""

HOLD_SECONDS: Final = 2147483646
"""``minReadySeconds`` of a held rollout: no pod of it ever counts as available, so none follows."""
HELD: Final = {
    "minReadySeconds": HOLD_SECONDS,
    "progressDeadlineSeconds": HOLD_SECONDS + 1,  # means none, and must be the larger of the two
    "paused": False,
}
LET_GO: Final = {"minReadySeconds": 0, "paused": False}
"""Of a Deployment whose held rollout is ended: what held it must not come back by another hand."""

DEPLOYMENT: Final = "Deployment"
LEADER_WORKER_SET: Final = "LeaderWorkerSet"
WORKLOADS: Final = (DEPLOYMENT, LEADER_WORKER_SET)
"""Kinds of which one runs the pods of a server."""

WORTH_A_BUDGET: Final = 2
"""Replicas from which on a PodDisruptionBudget keeps the others."""

PICKER_PORT: Final = 9002
"""Where endpoint pickers listen by default (gateway-api-inference-extension,
api/v1/inferencepool_types.go)."""

Object = dict[str, Any]


def owner_reference(server: VLLMServer) -> Object:
    """The reference that makes the server the controller of an object."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": server.metadata.name,
        "uid": server.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def render(
    server: VLLMServer, plan: Plan, gpu: GPUOffer, identity: Identity = "Fixed"
) -> tuple[Object, ...]:
    """The workload and the Service of a plan, in the order of their application.

    The workload is a Deployment, and a LeaderWorkerSet for replicas on several nodes. Its
    ``spec.replicas`` and rollout strategy are those of a new server; the
    controller sets both at each visit (``with_live_fields``). ``identity`` is that of pods that say
    nothing of it.

    Raises IllegalPin where the specification would give an object that the API server refuses.
    """
    common = _common(server)
    name = server.metadata.name
    values = pod_values(server.spec, plan, gpu, name, identity)
    common["replicas"], common["rolling_update"] = server.spec.replicas, SURGE
    if plan.placement.nodes == 1:
        workload = _document(
            "deployment.json.j2",
            **common,
            progress_deadline_seconds=progress_deadline_seconds(server.spec, plan),
            template=_pod(server, values),
        )
    else:
        workload = _document(
            "leaderworkerset.json.j2",
            **common,
            size=plan.placement.nodes,
            leader_template=_pod(server, leader_values(values, plan)),
            worker_template=_pod(server, worker_values(values, plan)),
        )
    made_of = template_hash(workload)
    metadata, pod = workload["metadata"], server.spec.pod or PodSpec()
    metadata["labels"] = {**(pod.workload_labels or {}), **metadata["labels"]}
    metadata["annotations"] = {**(pod.workload_annotations or {}), names.TEMPLATE_HASH: made_of}
    for template in _pod_templates(workload):
        template["metadata"]["labels"][names.TEMPLATE_LABEL] = made_of
    return workload, _document("service.json.j2", **common, serving=names.serving(name), port=PORT)


def _pod(server: VLLMServer, values: Mapping[str, Any]) -> Object:
    """A pod template, checked."""
    template = _document("pod.json.j2", **values)
    check_pod(template, server.spec)
    return template


def live_objects(server: VLLMServer, least: int | None = None) -> tuple[Object, ...]:
    """Objects that follow from what is never pinned: a PodDisruptionBudget of two replicas or more.

    One replica at a time may be evicted. A budget for a single one would stop every drain of its
    node for ever; a replica that does not serve holds none up. ``least`` is how many pods must stay
    while there is one more than replicas: counted from the replicas, two might be evicted at once.
    """
    if server.spec.replicas < WORTH_A_BUDGET:
        return ()
    bound = {"max_unavailable": 1 if least is None else None, "min_available": least}
    return (_document("poddisruptionbudget.json.j2", **_common(server), **bound),)


def inference_pool(server: VLLMServer) -> Object | None:
    """The InferencePool that the server asks for: over the pods behind its Service, and no others.

    Written as releases 1.0 to 1.5 of the Gateway API Inference Extension take it
    (api/v1/inferencepool_types.go): from 1.2 on a picker's Service needs its port.
    """
    pool = server.spec.routing.inference_pool if server.spec.routing else None
    if pool is None:
        return None
    picker, name = pool.endpoint_picker_ref, server.metadata.name
    return _document(
        "inferencepool.json.j2",
        **_common(server),
        serving=names.serving(name),
        port=PORT,
        picker=picker.name,
        picker_port=picker.port or PICKER_PORT,
        failure_mode=picker.failure_mode,
    )


def _common(server: VLLMServer) -> dict[str, Any]:
    """What the templates of all objects take."""
    name = server.metadata.name
    return {
        "name": name,
        "namespace": server.metadata.namespace,
        "labels": names.object_labels(name),
        "annotations": None,
        "owner_references": [owner_reference(server)] if server.metadata.uid else None,
        "selector": names.selector(name),
    }


def with_live_fields(
    rendered: Mapping[str, Any],
    spec: VLLMServerSpec,
    rolling_update: Mapping[str, int],
    marks: Mapping[str, str] | None = None,
) -> Object:
    """A pinned workload with what is never pinned: replicas, and the strategy of the moment.

    ``marks`` are annotations of the moment.
    """
    if rendered["kind"] not in WORKLOADS:
        return dict(rendered)
    if marks:
        metadata = rendered["metadata"]
        annotations = {**metadata["annotations"], **marks}
        rendered = {**rendered, "metadata": {**metadata, "annotations": annotations}}
    update = dict(rolling_update)
    if rendered["kind"] == DEPLOYMENT:
        strategy = {"strategy": {"type": "RollingUpdate", "rollingUpdate": update}}
    else:
        strategy = {
            "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": update}
        }
    return {**rendered, "spec": {**rendered["spec"], "replicas": spec.replicas, **strategy}}


def held(workload: Mapping[str, Any], fields: Mapping[str, Any]) -> Object:
    """A Deployment of the moment whose rollout is held (``HELD``) or let go (``LET_GO``)."""
    return {**workload, "spec": {**workload["spec"], **fields}}


def surroundings(template: Mapping[str, Any]) -> str:
    """Hash of what a pod template is beside its engine's command and the plan that it names.

    Equal for a plan and a trial of it, and for both as they are live: whoever else edits the
    template changes it.
    """
    labels = dict(template["metadata"].get("labels") or {})
    labels.pop(names.TEMPLATE_LABEL, None)
    containers = [
        {key: value for key, value in one.items() if key != "command" or one["name"] != ENGINE}
        for one in template["spec"]["containers"]
    ]
    metadata = {"labels": labels, "annotations": template["metadata"].get("annotations") or {}}
    return digest([metadata, {**template["spec"], "containers": containers}], 12)


def template_hash(workload: Mapping[str, Any]) -> str:
    """Hash of all pod templates of a workload, with the version of the hashing before it.

    Taken before they carry it as a label.
    """
    spec = workload["spec"]
    pods = spec["template"] if "template" in spec else spec["leaderWorkerTemplate"]
    return f"{TEMPLATE_HASH_VERSION}-{digest(pods)}"


def _pod_templates(workload: Mapping[str, Any]) -> Iterator[Object]:
    """The pod templates of a workload."""
    spec = workload["spec"]
    if "template" in spec:
        yield spec["template"]
    else:
        yield spec["leaderWorkerTemplate"]["leaderTemplate"]
        yield spec["leaderWorkerTemplate"]["workerTemplate"]


def template_of(objects: Sequence[Mapping[str, Any]]) -> str:
    """What the pods of a plan's objects carry in ``TEMPLATE_LABEL``."""
    return str(objects[0]["metadata"]["annotations"][names.TEMPLATE_HASH])


def without_nulls(value: Any) -> Any:
    """``value`` without the keys that hold null: an apply must not claim what it does not set."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


@cache
def _environment() -> jinja2.Environment:
    # Autoescaping is for HTML; here every value passes the json filter, which a test enforces.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vllm_operator.manifests"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["json"] = _to_json
    return environment


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _document(name_of_template: str, /, **values: Any) -> Object:
    text = _environment().get_template(name_of_template).render(**values)
    document = without_nulls(json.loads(text))
    if not isinstance(document, dict):
        raise AssertionError(f"{name_of_template} did not render an object")
    return document
