"""Objects of a planned server: a template an object, values as JSON, then checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jinja2

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec

from . import labels as names
from .checks import check_deployment
from .pod import pod_values

SURGE = {"maxSurge": 1, "maxUnavailable": 0}
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}

TEMPLATE_HASH_VERSION: Final = "1"
"""Bumped when the way of hashing changes, so that an old hash is never compared with a new one."""

Object = dict[str, Any]


@dataclass(frozen=True)
class GPUSelection:
    """How pods reach the planned GPU: the resource they ask for and the node labels they need."""

    resource_name: str
    node_labels: Mapping[str, tuple[str, ...]]


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


def render(server: VLLMServer, plan: Plan, gpu: GPUSelection) -> tuple[Object, ...]:
    """The Deployment and the Service of a feasible plan, in the order of their application.

    ``spec.replicas`` and the rollout strategy of the Deployment are those of a new server; the
    controller sets both at each visit (``with_live_fields``).

    Raises IllegalPin where the specification would give an object that the API server refuses.
    """
    common: dict[str, Any] = {
        "name": server.metadata.name,
        "namespace": server.metadata.namespace,
        "labels": names.object_labels(server.metadata.name),
        "annotations": None,
        "owner_references": [owner_reference(server)] if server.metadata.uid else None,
        "selector": names.selector(server.metadata.name),
    }
    deployment = _document(
        "deployment.json.j2",
        **common,
        replicas=server.spec.replicas,
        rolling_update=SURGE,
        **pod_values(server.spec, plan, gpu.resource_name, gpu.node_labels, server.metadata.name),
    )
    check_deployment(deployment)
    deployment["metadata"]["annotations"] = {names.TEMPLATE_HASH: template_hash(deployment)}
    return deployment, _document("service.json.j2", **common)


def with_live_fields(
    rendered: Mapping[str, Any], spec: VLLMServerSpec, rolling_update: Mapping[str, int]
) -> Object:
    """A pinned Deployment with what is never pinned: replicas, and the strategy of the moment."""
    if rendered["kind"] != "Deployment":
        return dict(rendered)
    return {
        **rendered,
        "spec": {
            **rendered["spec"],
            "replicas": spec.replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": dict(rolling_update)},
        },
    }


def template_hash(deployment: Mapping[str, Any]) -> str:
    """Hash of a Deployment's pod template, with the version of the hashing before it."""
    return f"{TEMPLATE_HASH_VERSION}-{digest(deployment['spec']['template'])}"


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


def _document(template: str, **values: Any) -> Object:
    text = _environment().get_template(template).render(**values)
    document = without_nulls(json.loads(text))
    if not isinstance(document, dict):
        raise AssertionError(f"{template} did not render an object")
    return document
