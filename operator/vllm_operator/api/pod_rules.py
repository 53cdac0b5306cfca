"""The rules over several fields of the pods, in CEL and in Python as those of ``api.rules``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .base import PORT, PORT_NAME, Rule
from .patterns import QUALIFIED_NAME
from .quantity import parse_quantity

ENGINE: Final = "engine"
"""Name of the container that runs vLLM."""

CACHE_VOLUME: Final = "cache"
"""Volume of the weights' cache, which the user's containers may mount: the operator's own."""

OWN_VOLUMES: Final = (CACHE_VOLUME, "model", "shm", "tmp")
TAKEN_PATHS: Final = "^(/cache|/tmp|/(dev|models|proc|sys)(/.*)?)$"
"""Where the operator's volumes lie in the engine's container or would be hidden, and what the
system keeps there."""


def _requests_within_limits(resources: Mapping[str, Any]) -> bool:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    return all(
        parse_quantity(requests[name]) <= parse_quantity(limits[name])
        for name in requests.keys() & limits.keys()
    )


def _mounted_are_known(pod: Mapping[str, Any], containers: str) -> bool:
    known = {CACHE_VOLUME, *(volume["name"] for volume in pod.get("volumes", []))}
    return all(
        mount["name"] in known
        for container in pod.get(containers, [])
        for mount in container.get("volumeMounts", [])
    )


def _names_are_unique(pod: Mapping[str, Any]) -> bool:
    names = ({one["name"] for one in pod.get(k, [])} for k in ("initContainers", "containers"))
    return not set.intersection(*names)


ENV_HAS_ONE_SOURCE: Final = Rule(
    cel=(
        "[has(self.value), has(self.secretKeyRef), has(self.configMapKeyRef)]"
        ".filter(x, x).size() == 1"
    ),
    message=(
        "an environment variable takes exactly one of value, secretKeyRef and configMapKeyRef; "
        "keep or add one"
    ),
    holds=lambda variable: (
        sum(member in variable for member in ("value", "secretKeyRef", "configMapKeyRef")) == 1
    ),
)

OWN_PREFIXES: Final = Rule(
    cel="self.all(k, !k.startsWith('vllm-operator.io/') && !k.startsWith('app.kubernetes.io/'))",
    message=(
        "keys under vllm-operator.io/ and app.kubernetes.io/ belong to the operator; "
        "use a prefix of your own"
    ),
    holds=lambda keys: (
        not any(key.startswith(("vllm-operator.io/", "app.kubernetes.io/")) for key in keys)
    ),
)

DEPLOYMENTS_PREFIX: Final = Rule(
    cel="self.all(k, !k.startsWith('deployment.kubernetes.io/'))",
    message=(
        "keys under deployment.kubernetes.io/ belong to the controller of Deployments; remove them"
    ),
    holds=lambda keys: not any(key.startswith("deployment.kubernetes.io/") for key in keys),
)

QUALIFIED_KEYS: Final = Rule(
    cel=f"self.all(k, k.size() <= 317 && k.matches(r'{QUALIFIED_NAME}'))",
    message=(
        "a key must be a label name: at most 63 letters, digits, '-', '_' and '.', "
        "after an optional DNS name and '/'; correct or remove it"
    ),
    holds=lambda keys: all(
        len(key) <= 317 and re.fullmatch(QUALIFIED_NAME, key) is not None for key in keys
    ),
)

_COMPUTE_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _compute_resources_only(verb: str) -> Rule:
    return Rule(
        cel=f"self.all(k, k in {list(_COMPUTE_RESOURCES)})",
        message=(
            f"only cpu, memory and ephemeral-storage may be {verb} here; "
            "remove the others: GPUs follow from spec.parallelism and spec.gpu"
        ),
        holds=lambda amounts: amounts.keys() <= set(_COMPUTE_RESOURCES),
    )


REQUESTABLE: Final = _compute_resources_only("requested")
LIMITABLE: Final = _compute_resources_only("limited")

REQUESTS_WITHIN_LIMITS: Final = Rule(
    cel=(
        "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
        "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
        "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)"
    ),
    message=(
        "a container's requests ask for more than its limits allow; lower the request or raise the "
        "limit"
    ),
    holds=_requests_within_limits,
)

TOLERATION_WITHOUT_KEY: Final = Rule(
    cel="has(self.key) && self.key != '' || self.?operator.orValue('Equal') == 'Exists'",
    message="a toleration without a key matches every taint; set its operator to Exists",
    holds=lambda toleration: bool(toleration.get("key") or toleration.get("operator") == "Exists"),
)

TOLERATION_EXISTS: Final = Rule(
    cel="self.?operator.orValue('Equal') != 'Exists' || self.?value.orValue('') == ''",
    message="a toleration with operator Exists takes no value; remove the value or use Equal",
    holds=lambda toleration: (
        toleration.get("operator") != "Exists" or not toleration.get("value", "")
    ),
)

TOLERATION_SECONDS: Final = Rule(
    cel="!has(self.tolerationSeconds) || self.?effect.orValue('') == 'NoExecute'",
    message="tolerationSeconds only counts for effect NoExecute; set that effect or remove it",
    holds=lambda toleration: (
        "tolerationSeconds" not in toleration or toleration.get("effect") == "NoExecute"
    ),
)

VOLUME_HAS_ONE_SOURCE: Final = Rule(
    cel=(
        "[has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), "
        "has(self.emptyDir)].filter(x, x).size() == 1"
    ),
    message=(
        "a volume takes exactly one of configMap, secret, persistentVolumeClaim and emptyDir; "
        "keep or add one"
    ),
    holds=lambda volume: (
        sum(kind in volume for kind in ("configMap", "secret", "persistentVolumeClaim", "emptyDir"))
        == 1
    ),
)

NOT_AN_OWN_VOLUME: Final = Rule(
    cel=f"!(self.name in {list(OWN_VOLUMES)})",
    message=("cache, model, shm and tmp are the operator's own volumes; choose another name"),
    holds=lambda volume: volume["name"] not in OWN_VOLUMES,
    field="name",
)

NOT_AN_OWN_PATH: Final = Rule(
    cel=f"!self.mountPath.matches('{TAKEN_PATHS}')",
    message=(
        "/cache, /tmp, /dev/shm and /models are the operator's own volumes, and /dev, /proc and "
        "/sys the system's; choose another path, such as /files"
    ),
    holds=lambda mount: re.search(TAKEN_PATHS, mount["mountPath"]) is None,
    field="mountPath",
)

MOUNTS_ARE_OF_VOLUMES: Final = Rule(
    cel=(
        "!has(self.volumeMounts) || self.volumeMounts.all(m, "
        "has(self.volumes) && self.volumes.exists(v, v.name == m.name))"
    ),
    message=(
        "spec.pod.volumeMounts mounts a volume that spec.pod.volumes does not have; "
        "use the name of one that it has, or add it"
    ),
    holds=lambda pod: (
        {mount["name"] for mount in pod.get("volumeMounts", [])}
        <= {volume["name"] for volume in pod.get("volumes", [])}
    ),
    field="volumeMounts",
)


def _known_mounts(containers: str) -> Rule:
    return Rule(
        cel=(
            f"!has(self.{containers}) || self.{containers}.all(c, !has(c.volumeMounts) || "
            f"c.volumeMounts.all(m, m.name == '{CACHE_VOLUME}' || "
            "(has(self.volumes) && self.volumes.exists(v, v.name == m.name))))"
        ),
        message=(
            f"spec.pod.{containers} mounts a volume that spec.pod.volumes does not have; use the "
            "name of one that it has, or cache, which holds the weights' cache"
        ),
        holds=lambda pod: _mounted_are_known(pod, containers),
        field=containers,
    )


INIT_MOUNTS_ARE_KNOWN: Final = _known_mounts("initContainers")
MOUNTS_ARE_KNOWN: Final = _known_mounts("containers")

CONTAINER_NAMES_ARE_UNIQUE: Final = Rule(
    cel=(
        "!has(self.initContainers) || !has(self.containers) || "
        "self.containers.all(c, !self.initContainers.exists(i, i.name == c.name))"
    ),
    message=(
        "spec.pod.containers has a container of a name that spec.pod.initContainers has; "
        "choose another name"
    ),
    holds=_names_are_unique,
    field="containers",
)

NOT_THE_ENGINE: Final = Rule(
    cel=f"self.name != '{ENGINE}'",
    message=f"{ENGINE} is the container that runs vLLM; choose another name",
    holds=lambda container: container["name"] != ENGINE,
    field="name",
)

NOT_THE_ENGINES_PORT: Final = Rule(
    cel=f"self.containerPort != {PORT}",
    message=f"port {PORT} is the engine's in the whole pod; choose another port",
    holds=lambda port: port["containerPort"] != PORT,
    field="containerPort",
)

NOT_THE_ENGINES_PORT_NAME: Final = Rule(
    cel=f"!has(self.name) || self.name != '{PORT_NAME}'",
    message=f"{PORT_NAME} is the engine's port, to which the Service points; choose another name",
    holds=lambda port: port.get("name") != PORT_NAME,
    field="name",
)

POD_RULES: Final = (
    ENV_HAS_ONE_SOURCE,
    OWN_PREFIXES,
    DEPLOYMENTS_PREFIX,
    QUALIFIED_KEYS,
    REQUESTABLE,
    LIMITABLE,
    REQUESTS_WITHIN_LIMITS,
    TOLERATION_WITHOUT_KEY,
    TOLERATION_EXISTS,
    TOLERATION_SECONDS,
    VOLUME_HAS_ONE_SOURCE,
    NOT_AN_OWN_VOLUME,
    NOT_AN_OWN_PATH,
    MOUNTS_ARE_OF_VOLUMES,
    INIT_MOUNTS_ARE_KNOWN,
    MOUNTS_ARE_KNOWN,
    CONTAINER_NAMES_ARE_UNIQUE,
    NOT_THE_ENGINE,
    NOT_THE_ENGINES_PORT,
    NOT_THE_ENGINES_PORT_NAME,
)
