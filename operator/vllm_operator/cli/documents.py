"""Reads manifests from files as a Kubernetes API server would read them from kubectl.

YAML is read strictly: a key that stands twice, a key that is no string and a number that is no
finite number are errors, dates stay text, and ``1e-06`` is a number, unlike in PyYAML's YAML 1.1.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from vllm_operator.api.base import API_VERSION, GROUP, KIND
from vllm_operator.api.counting import counted
from vllm_operator.errors import InputError
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.prices import SHAPE, Prices, checked_prices
from vllm_operator.hardware.prices import VALUE as PRICES
from vllm_operator.sizing.asked.defaults import (
    VALUE,
    Defaults,
    checked_defaults,
    without_empty,
)

STANDARD_INPUT: Final = "-"
LARGEST_FILE: Final = 16 * 1024 * 1024
LARGEST_DOCUMENT: Final = 1_000_000
"""Values in one document; ten thousand nodes have fewer."""

_SHAPE: Final = "{engine: {env: [...]}, pod: {tolerations: [...]}}"

_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_INTEGER = re.compile(r"^[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o[0-7]+)$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the number syntax of YAML 1.2, without dates, keys checked."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise InputError(
                    f"line {line}: the key {key_node.value!r} is read as {key!r}, which is no "
                    "text; put it in quotes"
                )
            if key in seen:
                raise InputError(f"line {line}: the key {key!r} stands there twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, 0) if text.lstrip("+-")[:2] in ("0x", "0o") else int(text)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    dropped = {
        "tag:yaml.org,2002:timestamp",
        "tag:yaml.org,2002:int",
        "tag:yaml.org,2002:float",
    }
    inherited = yaml.SafeLoader.yaml_implicit_resolvers
    found = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in dropped]
        for first, rules in inherited.items()
    }
    for first in "-+.0123456789":
        rules = found.setdefault(first, [])
        rules.append(("tag:yaml.org,2002:int", _INTEGER))
        rules.append(("tag:yaml.org,2002:float", _FLOAT))
    return found


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a file holds: servers in order, and the ConfigMaps that they may refer to."""

    servers: tuple[Mapping[str, Any], ...]
    config_maps: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    """Data by (namespace, name)."""


def read_documents(path: str) -> list[Any]:
    """Every non-empty YAML (or JSON) document of a file, or of standard input for ``-``.

    Raises ``InputError``, one line, for a file that cannot be read or is malformed.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    text = _text(path, name)
    try:
        documents = [document for document in yaml.load_all(text, _Loader) if document is not None]
        for document in documents:
            _check_plain(document)
    except InputError as problem:
        raise InputError(f"{name}: {problem}") from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise InputError(f"{name}: {_one_line(problem)}") from problem
    return documents


def read_manifests(path: str) -> Manifests:
    """The servers and ConfigMaps of a file.

    Objects of other kinds (a Namespace, a PersistentVolumeClaim) are passed over. Raises
    ``InputError`` where there is no ``VLLMServer`` at all, or an object that looks like a
    misspelt one.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    servers: list[Mapping[str, Any]] = []
    config_maps: dict[tuple[str, str], Mapping[str, str]] = {}
    kinds: list[str] = []
    for number, document in enumerate(_flattened(read_documents(path)), start=1):
        kind = _kind(document, f"{name}: document {number}")
        if kind == KIND:
            servers.append(document)
        elif kind == "ConfigMap":
            key, data = _config_map(document)
            config_maps[key] = data
        kinds.append(kind)
    if not servers:
        found = f"only {', '.join(sorted(set(kinds)))}" if kinds else "nothing"
        raise InputError(f"{name}: holds {found}; a document of kind {KIND} is needed")
    return Manifests(tuple(servers), config_maps)


def read_nodes(path: str) -> list[Mapping[str, Any]]:
    """Node objects: a list, one a document, or what ``kubectl get nodes -o json`` prints."""
    name = "standard input" if path == STANDARD_INPUT else path
    nodes: list[Mapping[str, Any]] = []
    for document in _flattened(read_documents(path)):
        for node in document if isinstance(document, list) else [document]:
            if not isinstance(node, Mapping) or node.get("kind", "Node") != "Node":
                kind = node.get("kind") if isinstance(node, Mapping) else type(node).__name__
                raise InputError(f"{name}: expected objects of kind Node, and found {kind}")
            nodes.append(node)
    return nodes


def read_measured_gpus(path: str) -> tuple[MeasuredGPU, ...]:
    """What ``vllm-operator calibrate -o json`` printed. Raises ``InputError``."""
    name = "standard input" if path == STANDARD_INPUT else path
    documents = list(_flattened(read_documents(path)))
    try:
        records = [
            one for each in documents for one in (each if isinstance(each, list) else [each])
        ]
        return tuple(map(MeasuredGPU.from_json_object, records))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(
            f"{name}: is not what `vllm-operator calibrate -o json` prints: {problem!r:.200}"
        ) from problem


def read_price_list(path: str) -> Prices:
    """What GPUs cost: the chart's value ``prices``, alone or among others.

    Raises ``InputError`` with the first thing that is wrong, by its field.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    documents = read_documents(path)
    if len(documents) != 1 or not isinstance(documents[0], Mapping):
        raise InputError(f"{name}: is no file of prices: it needs one object, such as {SHAPE}")
    values = documents[0]
    found, problems = checked_prices(values.get(PRICES) or {} if PRICES in values else values)
    if problems:
        raise InputError(f"{name}: {problems[0].field}: {problems[0].message}")
    return found


def read_platform_defaults(path: str) -> Defaults:
    """What the platform gives to servers: the chart's value ``defaults``, alone or among others.

    Raises ``InputError`` with the first thing that is wrong, by its field, and their number.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    documents = read_documents(path)
    if len(documents) > 1 or not all(isinstance(one, Mapping) for one in documents):
        raise InputError(f"{name}: is no file of values: it needs one object, such as {_SHAPE}")
    values = documents[0] if documents else {}
    values = values.get(VALUE) or {} if VALUE in values else values
    if not isinstance(values, Mapping):
        raise InputError(f"{name}: {VALUE}: is no object; it is like {_SHAPE}")
    found, problems = checked_defaults(without_empty(values))
    if problems:
        first, more = problems[0], len(problems) - 1
        rest = f" ({counted(more, 'more problem')})" if more else ""
        raise InputError(f"{name}: {first.field}: {first.message}{rest}")
    return found


def _flattened(documents: list[Any]) -> Iterator[Any]:
    for document in documents:
        is_list = isinstance(document, Mapping) and str(document.get("kind", "")).endswith("List")
        items = document.get("items") if is_list else None
        if isinstance(items, list):
            yield from items
        else:
            yield document


def _kind(document: Any, where: str) -> str:
    if not isinstance(document, Mapping):
        raise InputError(f"{where} is no object: it is a {type(document).__name__}")
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        raise InputError(
            f"{where} has no apiVersion and kind; a server has apiVersion: {API_VERSION} "
            f"and kind: {KIND}"
        )
    ours = version.partition("/")[0] == GROUP
    if ours != (kind == KIND) or (ours and version != API_VERSION):
        raise InputError(
            f"{where} is a {kind} of {version}; expected apiVersion: {API_VERSION} and kind: {KIND}"
        )
    return kind


def _config_map(document: Mapping[str, Any]) -> tuple[tuple[str, str], Mapping[str, str]]:
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    data = document.get("data")
    data = data if isinstance(data, Mapping) else {}
    key = (str(metadata.get("namespace", "default")), str(metadata.get("name", "")))
    return key, {str(k): v for k, v in data.items() if isinstance(v, str)}


def _text(path: str, name: str) -> str:
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.read(LARGEST_FILE)
        if Path(path).stat().st_size > LARGEST_FILE:
            raise InputError(f"{name}: is larger than {LARGEST_FILE} bytes")
        return Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise InputError(f"{name}: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise InputError(f"{name}: is not UTF-8 text: {problem.reason}") from problem


def _check_plain(document: Any) -> None:
    """Everything must be expressible in JSON, as it is on its way to an API server."""
    pending, count = [document], 0
    while pending:
        value = pending.pop()
        count += 1
        if count > LARGEST_DOCUMENT:
            # Anchors may repeat a part without end, or hold themselves.
            raise InputError(
                f"has more than {LARGEST_DOCUMENT} values once its anchors are resolved"
            )
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{value} is no number that JSON can hold")
        elif value is not None and not isinstance(value, (str, int, float)):
            raise InputError(f"a {type(value).__name__} cannot stand in a manifest; use text")


def _one_line(problem: Exception) -> str:
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        mark = problem.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem.problem}"
    return " ".join(str(problem).split()) or type(problem).__name__
