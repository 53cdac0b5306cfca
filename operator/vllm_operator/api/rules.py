"""Every rule over several fields of the resource, in CEL and in Python side by side.

The schema carries the CEL, which the API server evaluates at admission; ``api.offline`` evaluates
the Python on files. A test holds both to the same answers on a real API server. What one field
alone may be is its bounds' business (``api.v1alpha1``), what needs knowledge of GPUs, models or
vLLM versions is the planner's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .base import Rule
from .patterns import IMAGE_VERSION, QUALIFIED_NAME, SERVICE_NAME
from .quantity import parse_quantity

NAME_LIMIT: Final = 52
"""A StatefulSet appends 11 characters in the label controller-revision-hash, which may have 63."""


def _no_more_than_one(members: tuple[str, ...], value: Mapping[str, Any]) -> bool:
    return sum(member in value for member in members) <= 1


def _batch_holds_a_prompt(engine: Mapping[str, Any]) -> bool:
    if engine.get("chunkedPrefill", True) or "maxModelLen" not in engine:
        return True
    return bool(engine.get("maxNumBatchedTokens", engine["maxModelLen"]) >= engine["maxModelLen"])


def _requests_within_limits(resources: Mapping[str, Any]) -> bool:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    return all(
        parse_quantity(requests[name]) <= parse_quantity(limits[name])
        for name in requests.keys() & limits.keys()
    )


def _serves_from_volume(model: Mapping[str, Any]) -> bool:
    storage = model.get("storage", {})
    volumes = [storage.get(kind, {}) for kind in ("persistentVolumeClaim", "hostPath")]
    return "image" in storage or any(volume.get("mode") == "Model" for volume in volumes)


SERVER_NAME: Final = Rule(
    cel=f"size(self.metadata.name) <= {NAME_LIMIT} && self.metadata.name.matches('{SERVICE_NAME}')",
    message=(
        f"metadata.name must have at most {NAME_LIMIT} characters, only lower-case letters, digits "
        "and '-', start with a letter and end with a letter or digit, because the Service and the "
        "pods are named after it; choose another name"
    ),
    holds=lambda root: (
        len(root["metadata"]["name"]) <= NAME_LIMIT
        and re.fullmatch(SERVICE_NAME, root["metadata"]["name"]) is not None
    ),
)

ONE_SOURCE_OF_FACTS: Final = Rule(
    cel="!(has(self.config) && has(self.configMapRef))",
    message="spec.model.config and spec.model.configMapRef both give the model's facts; keep one",
    holds=lambda model: _no_more_than_one(("config", "configMapRef"), model),
)

NO_REVISION_OF_A_VOLUME: Final = Rule(
    cel=(
        "!has(self.revision) || "
        "(self.?storage.?persistentVolumeClaim.?mode.orValue('Cache') != 'Model' && "
        "self.?storage.?hostPath.?mode.orValue('Cache') != 'Model' && "
        "!self.?storage.?image.hasValue())"
    ),
    message=(
        "spec.model.revision picks a revision on the Hub, and spec.model.storage serves what lies "
        "on the volume (mode Model, or an image); remove spec.model.revision or set the mode to "
        "Cache"
    ),
    holds=lambda model: "revision" not in model or not _serves_from_volume(model),
    field="revision",
)

ONE_STORAGE: Final = Rule(
    cel=(
        "[has(self.persistentVolumeClaim), has(self.emptyDir), has(self.hostPath), "
        "has(self.image)].filter(x, x).size() <= 1"
    ),
    message=(
        "spec.model.storage takes one of persistentVolumeClaim, emptyDir, hostPath and image; "
        "keep one"
    ),
    holds=lambda storage: _no_more_than_one(
        ("persistentVolumeClaim", "emptyDir", "hostPath", "image"), storage
    ),
)

KNOWN_ENGINE_VERSION: Final = Rule(
    cel=(f"!has(self.image) || has(self.version) || self.image.matches(r'{IMAGE_VERSION}')"),
    message=(
        "the tag of spec.engine.image does not say which vLLM it holds; "
        'set spec.engine.version, for example "0.30.0"'
    ),
    holds=lambda engine: (
        "image" not in engine
        or "version" in engine
        or re.search(IMAGE_VERSION, engine["image"]) is not None
    ),
    field="image",
)

UTILIZATION_IS_A_FRACTION: Final = Rule(
    # The API server compares a whole number with the whole part of a bound: 0 passes minimum 0.05.
    cel="self > 0.0",
    message=(
        "spec.engine.gpuMemoryUtilization must be a fraction of at least 0.05; raise or remove it"
    ),
    holds=lambda utilization: utilization > 0,
)

ACTIVE_AMONG_SEQUENCES: Final = Rule(
    cel=(
        "!has(self.maxNumActiveSeqs) || !has(self.maxNumSeqs) || "
        "self.maxNumActiveSeqs <= self.maxNumSeqs"
    ),
    message=(
        "spec.engine.maxNumActiveSeqs must be at most spec.engine.maxNumSeqs, of which it is a "
        "part; lower the one or raise the other"
    ),
    holds=lambda engine: bool(
        "maxNumSeqs" not in engine or engine.get("maxNumActiveSeqs", 0) <= engine["maxNumSeqs"]
    ),
    field="maxNumActiveSeqs",
)

BATCH_HOLDS_SEQUENCES: Final = Rule(
    cel=(
        "!has(self.maxNumBatchedTokens) || !has(self.maxNumSeqs) || "
        "self.maxNumBatchedTokens >= self.maxNumSeqs"
    ),
    message=(
        "spec.engine.maxNumBatchedTokens must be at least spec.engine.maxNumSeqs: "
        "vLLM schedules one token a sequence in each step; raise the one or lower the other"
    ),
    holds=lambda engine: bool(
        "maxNumBatchedTokens" not in engine
        or engine["maxNumBatchedTokens"] >= engine.get("maxNumSeqs", 0)
    ),
    field="maxNumBatchedTokens",
)

BATCH_HOLDS_PROMPT: Final = Rule(
    cel=(
        "!has(self.chunkedPrefill) || self.chunkedPrefill || !has(self.maxModelLen) || "
        "!has(self.maxNumBatchedTokens) || self.maxNumBatchedTokens >= self.maxModelLen"
    ),
    message=(
        "without spec.engine.chunkedPrefill a prompt is one step, so "
        "spec.engine.maxNumBatchedTokens must be at least spec.engine.maxModelLen; "
        "raise the one, lower the other, or remove chunkedPrefill"
    ),
    holds=_batch_holds_a_prompt,
    field="maxNumBatchedTokens",
)

DRAFT_IS_NAMED: Final = Rule(
    cel="!(self.method in ['draft_model', 'eagle', 'eagle3']) || has(self.model)",
    message=(
        "spec.engine.speculative.method draft_model, eagle and eagle3 load a draft; "
        "set spec.engine.speculative.model to its repository, or use ngram"
    ),
    holds=lambda speculative: (
        speculative.get("method") not in ("draft_model", "eagle", "eagle3")
        or "model" in speculative
    ),
    field="method",
)

AN_OBJECTIVE_HAS_A_LATENCY: Final = Rule(
    cel="has(self.timeToFirstTokenMilliseconds) || has(self.interTokenLatencyMilliseconds)",
    message=(
        "spec.workload.slo names no latency; set timeToFirstTokenMilliseconds, "
        "interTokenLatencyMilliseconds or both"
    ),
    holds=lambda slo: bool(
        {"timeToFirstTokenMilliseconds", "interTokenLatencyMilliseconds"} & slo.keys()
    ),
)

BOUND_IS_A_FRACTION: Final = replace(
    UTILIZATION_IS_A_FRACTION,
    message="a bound of the utilization must be a fraction of at least 0.05; raise or remove it",
)

BOUNDS_ARE_ORDERED: Final = Rule(
    cel="!has(self.min) || !has(self.max) || self.min <= self.max",
    message="min must be at most max; lower the one or raise the other",
    holds=lambda bounds: bool(
        "min" not in bounds or "max" not in bounds or bounds["min"] <= bounds["max"]
    ),
    field="min",
)

TUNED_BATCH_HOLDS_SEQUENCES: Final = Rule(
    cel=("self.?maxNumBatchedTokens.?max.orValue(1048576) >= self.?maxNumSeqs.?min.orValue(1)"),
    message=(
        "spec.autotune.bounds.maxNumBatchedTokens.max must be at least "
        "spec.autotune.bounds.maxNumSeqs.min: vLLM schedules one token a sequence in each step; "
        "raise the one or lower the other"
    ),
    holds=lambda bounds: bool(
        bounds.get("maxNumBatchedTokens", {}).get("max", 1_048_576)
        >= bounds.get("maxNumSeqs", {}).get("min", 1)
    ),
    field="maxNumBatchedTokens",
)

ENV_HAS_ONE_SOURCE: Final = Rule(
    cel=(
        "[has(self.value), has(self.secretKeyRef), has(self.configMapKeyRef)]"
        ".filter(x, x).size() == 1"
    ),
    message=(
        "an entry of spec.engine.env takes exactly one of value, secretKeyRef and configMapKeyRef; "
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
        "spec.pod.resources.requests asks for more than spec.pod.resources.limits allows; "
        "lower the request or raise the limit"
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

RULES: Final = (
    SERVER_NAME,
    ONE_SOURCE_OF_FACTS,
    NO_REVISION_OF_A_VOLUME,
    ONE_STORAGE,
    KNOWN_ENGINE_VERSION,
    UTILIZATION_IS_A_FRACTION,
    ACTIVE_AMONG_SEQUENCES,
    BATCH_HOLDS_SEQUENCES,
    BATCH_HOLDS_PROMPT,
    DRAFT_IS_NAMED,
    AN_OBJECTIVE_HAS_A_LATENCY,
    BOUNDS_ARE_ORDERED,
    TUNED_BATCH_HOLDS_SEQUENCES,
    ENV_HAS_ONE_SOURCE,
    OWN_PREFIXES,
    QUALIFIED_KEYS,
    REQUESTABLE,
    LIMITABLE,
    REQUESTS_WITHIN_LIMITS,
    TOLERATION_WITHOUT_KEY,
    TOLERATION_EXISTS,
    TOLERATION_SECONDS,
)
