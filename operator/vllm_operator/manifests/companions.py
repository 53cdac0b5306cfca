"""Containers of the user's beside the engine: before it, from before on, or beside it."""

from __future__ import annotations

from typing import Any

from vllm_operator.api.pod import (
    Container,
    EnvironmentVariable,
    KeyReference,
    PodSpec,
)

from .security import container_security_context

Object = dict[str, Any]


def init_containers(pod: PodSpec) -> list[Object] | None:
    """Those that start before the engine."""
    return [_container(pod, one) for one in pod.init_containers or []] or None


def companions(pod: PodSpec) -> list[Object]:
    """Those that start with the engine."""
    return [_container(pod, one) for one in pod.containers or []]


def _container(pod: PodSpec, given: Container) -> Object:
    found = given.to_json_object()
    found["env"] = [user_variable(variable) for variable in given.env or []] or None
    found["ports"] = [{"protocol": "TCP", **port} for port in found.get("ports", [])] or None
    return {**found, "securityContext": container_security_context(pod)}


def user_variable(variable: EnvironmentVariable) -> Object:
    """A variable in Kubernetes' own shape."""
    if variable.secret_key_ref is not None:
        return from_secret(variable.name, variable.secret_key_ref)
    if variable.config_map_key_ref is not None:
        source = {"configMapKeyRef": variable.config_map_key_ref.to_json_object()}
        return {"name": variable.name, "valueFrom": source}
    return {"name": variable.name, "value": variable.value or ""}


def from_secret(name: str, reference: KeyReference) -> Object:
    """A variable whose value is a key of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": reference.to_json_object()}}
