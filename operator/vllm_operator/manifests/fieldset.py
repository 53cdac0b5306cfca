"""The field set that server-side apply records for an object of ours.

The API server notes in ``metadata.managedFields`` which fields a manager's last apply set, and
takes a field out of that set when somebody else changes its value. Comparing the set on the live
object with the set of the desired one therefore shows every foreign change of an owned value,
without comparing values (``1000m`` and ``1`` are equal to the API server and different to us).

Lists of objects are merged by keys or replaced whole; which, Kubernetes' published schema says for
each list (``x-kubernetes-list-type`` and ``-map-keys``; ``merge_keys.yaml`` holds those that our
objects can contain). The format of the set is ``fieldsV1`` of structured-merge-diff v6.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import yaml

from vllm_operator import datafiles

FieldSet = dict[str, Any]

IDENTITY = ("name", "namespace", "uid", "resourceVersion")
UNOWNED = {("apiVersion",), ("kind",), *(("metadata", key) for key in IDENTITY)}
"""Fields that identify the object; the API server strips them from every set."""


@cache
def _rules() -> tuple[dict[str, dict[str, Any]], frozenset[str]]:
    data = yaml.safe_load(datafiles.text(__package__, "merge_keys.yaml"))
    return data["maps"], frozenset(data["atomic"])


def field_set(desired: Mapping[str, Any]) -> FieldSet:
    """``fieldsV1`` of an apply of ``desired``, without uid and resourceVersion."""
    return _of_mapping(desired, (str(desired["kind"]),))


def field_set_digest(fields: Mapping[str, Any]) -> str:
    """A short name of a field set, to keep and compare instead of the set."""
    # A field set holds no numbers and no nulls, so plain JSON is canonical; every event of a child
    # pays for this.
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _of_mapping(value: Mapping[str, Any], path: tuple[str, ...]) -> FieldSet:
    fields: FieldSet = {}
    for key, item in value.items():
        here = (*path, key)
        if item is None or here[1:] in UNOWNED:
            continue
        fields[f"f:{key}"] = _of_value(item, here)
    return fields


def _of_value(value: Any, path: tuple[str, ...]) -> FieldSet:
    atomic, rule = _rule(path)
    if atomic:
        return {}
    if isinstance(value, Mapping):
        return _of_mapping(value, path)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {} if rule is None else _of_list(value, path, rule)
    return {}


def _of_list(
    value: Sequence[Mapping[str, Any]], path: tuple[str, ...], rule: Mapping[str, Any]
) -> FieldSet:
    fields: FieldSet = {}
    defaults: Mapping[str, Any] = rule.get("defaults", {})
    for item in value:
        keys = {key: item.get(key, defaults.get(key)) for key in rule["keys"]}
        name = json.dumps(
            {key: keys[key] for key in sorted(keys) if keys[key] is not None},
            separators=(",", ":"),
        )
        whole = rule.get("atomicItems", False)
        fields[f"k:{name}"] = {} if whole else {".": {}, **_of_mapping(item, path)}
    return fields


@lru_cache(maxsize=4096)
def _rule(path: tuple[str, ...]) -> tuple[bool, dict[str, Any] | None]:
    """Whether what stands at ``path`` is replaced whole, and how it is merged if it is a list.

    A path begins with the object's kind.
    """
    merge_maps, atomic = _rules()
    dotted = ".".join(path)
    rule = next((rule for name, rule in merge_maps.items() if _ends(dotted, name)), None)
    return any(_ends(dotted, name) for name in atomic), rule


def _ends(dotted: str, name: str) -> bool:
    return dotted == name or dotted.endswith("." + name)
