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
from .patterns import IMAGE_VERSION, SERVICE_NAME
from .pod_rules import POD_RULES

NAME_LIMIT: Final = 52
"""A StatefulSet appends 11 characters in the label controller-revision-hash, which may have 63."""


def _no_more_than_one(members: tuple[str, ...], value: Mapping[str, Any]) -> bool:
    return sum(member in value for member in members) <= 1


def _batch_holds_a_prompt(engine: Mapping[str, Any]) -> bool:
    if engine.get("chunkedPrefill", True) or "maxModelLen" not in engine:
        return True
    return bool(engine.get("maxNumBatchedTokens", engine["maxModelLen"]) >= engine["maxModelLen"])


def _is_a_place(model: Mapping[str, Any]) -> bool:
    name = model.get("id", "")  # the platform's defaults have none
    return "://" in name or name.startswith("/")


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

_NO_VOLUME_SERVES: Final = (
    "(self.?storage.?persistentVolumeClaim.?mode.orValue('Cache') != 'Model' && "
    "self.?storage.?hostPath.?mode.orValue('Cache') != 'Model' && "
    "!self.?storage.?image.hasValue())"
)
_NO_PLACE: Final = "!(self.id.contains('://') || self.id.startsWith('/'))"

NO_REVISION_OF_A_VOLUME: Final = Rule(
    cel=f"!has(self.revision) || {_NO_VOLUME_SERVES}",
    message=(
        "spec.model.revision picks a revision on the Hub, and spec.model.storage serves what lies "
        "on the volume (mode Model, or an image); remove spec.model.revision or set the mode to "
        "Cache"
    ),
    holds=lambda model: "revision" not in model or not _serves_from_volume(model),
    field="revision",
)

NO_REVISION_OF_AN_ADDRESS: Final = Rule(
    cel=f"!has(self.revision) || {_NO_PLACE}",
    message=(
        "spec.model.revision picks a revision on the Hub, and spec.model.id says where the weights "
        "are; remove spec.model.revision"
    ),
    holds=lambda model: "revision" not in model or not _is_a_place(model),
    field="revision",
)

ONE_PLACE_OF_WEIGHTS: Final = Rule(
    cel=f"{_NO_PLACE} || {_NO_VOLUME_SERVES}",
    message=(
        "spec.model.id says where the weights are, and spec.model.storage serves what lies on a "
        "volume (mode Model, or an image); set spec.model.id to a name, or remove the storage"
    ),
    holds=lambda model: not _is_a_place(model) or not _serves_from_volume(model),
    field="storage",
)

ONE_STORAGE: Final = Rule(
    cel=(
        "[has(self.persistentVolumeClaim), has(self.emptyDir), has(self.ephemeral), "
        "has(self.hostPath), has(self.image)].filter(x, x).size() <= 1"
    ),
    message=(
        "spec.model.storage takes one of persistentVolumeClaim, emptyDir, ephemeral, hostPath and "
        "image; keep one"
    ),
    holds=lambda storage: _no_more_than_one(
        ("persistentVolumeClaim", "emptyDir", "ephemeral", "hostPath", "image"), storage
    ),
)

KNOWN_ENGINE_VERSION: Final = Rule(
    cel=(f"!has(self.image) || has(self.version) || self.image.matches(r'{IMAGE_VERSION}')"),
    message=(
        "the tag of spec.engine.image does not say which vLLM it holds; "
        'set spec.engine.version, for example "0.32.0"'
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

RULES: Final = (
    SERVER_NAME,
    ONE_SOURCE_OF_FACTS,
    NO_REVISION_OF_A_VOLUME,
    NO_REVISION_OF_AN_ADDRESS,
    ONE_PLACE_OF_WEIGHTS,
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
    *POD_RULES,
)
