"""Checks a manifest without a cluster, by the same schema that the API server admits with.

The structural part is a walk over the generated schema. The CEL rules are not evaluated: each has
a Python counterpart (``api.rules``), which is asked where everything below its object is correct,
as the API server does.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .base import API_VERSION, KIND, Rule
from .conditions import truncate
from .patterns import MEANINGS
from .plan import Problem
from .rules import RULES, SERVER_NAME
from .schema import FREE_FORM_KEY, INT_OR_STRING, RULES_KEY, Schema
from .schema import structural_schema as _structural_schema
from .v1alpha1 import VLLMServerSpec

REASON: Final = "IllegalPin"
_PATH_LIMIT: Final = 200


def schema_problems(manifest: Mapping[str, Any]) -> list[Problem]:
    """What the API server would refuse about a VLLMServer's manifest, in the manifest's order.

    ``status`` and the metadata beside the name are not looked at. Empty where the manifest would be
    admitted.
    """
    found = list(_header(manifest))
    if manifest.get("spec") is None:
        found.append(_problem("spec", "is required; give at least model.id"))
    else:
        found.extend(value_problems(spec_schema(), _as_sent(manifest["spec"]), "spec"))
    return found


@functools.cache
def spec_schema() -> Schema:
    """The structural schema of ``spec``."""
    return _structural_schema(VLLMServerSpec, "spec")


@functools.cache
def python_rules() -> Mapping[str, Rule]:
    """Every rule of the schema by its CEL expression."""
    return {rule.cel: rule for rule in RULES}


def _header(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if manifest.get(key) != wanted:
            yield _problem(key, f"is {_shown(manifest.get(key))} and must be {wanted}")
    for key in manifest:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            yield _problem(key, _unknown_field(key, "", {"spec": spec_schema()}))
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        yield _problem("metadata.name", "is required, as text")
    elif not SERVER_NAME.holds(manifest):
        yield _problem("metadata.name", SERVER_NAME.message)


def value_problems(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    """What ``schema`` refuses about ``value``, which stands at ``path``; its rules come last."""
    wrong_type = _type_problem(schema, value)
    if wrong_type is not None:
        yield _problem(path, wrong_type)
        return
    below = [_problem(path, message) for message in _bound_problems(schema, value)]
    if isinstance(value, Mapping):
        below.extend(_object_problems(schema, value, path))
    elif isinstance(value, list):
        below.extend(_list_problems(schema, value, path))
    yield from below
    if not below:
        yield from _rule_problems(schema, value, path)


def _object_problems(schema: Schema, value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    known: Mapping[str, Schema] = schema.get("properties", {})
    for name in schema.get("required", []):
        if value.get(name) is None:
            yield _problem(f"{path}.{name}", f"is required: {known[name]['description']}")
    for key, member in value.items():
        here = f"{path}.{key}"
        if key in known:
            if member is not None:  # a null field is dropped at admission
                yield from value_problems(known[key], member, here)
        elif "additionalProperties" in schema:
            if member is not None:
                yield from value_problems(schema["additionalProperties"], member, here)
        elif FREE_FORM_KEY not in schema:
            yield _problem(here, _unknown_field(str(key), f"{path}.", known))


def _list_problems(schema: Schema, value: list[Any], path: str) -> Iterator[Problem]:
    for index, item in enumerate(value):
        yield from value_problems(schema["items"], item, f"{path}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys is None:
        return
    seen: set[tuple[str, ...]] = set()
    for index, item in enumerate(value):
        identity = tuple(str(item.get(key)) for key in keys) if isinstance(item, Mapping) else ()
        if identity and identity in seen:
            shown = ", ".join(f"{key} {text}" for key, text in zip(keys, identity, strict=True))
            yield _problem(f"{path}[{index}]", f"repeats the entry with {shown}; keep one")
        seen.add(identity)


def _rule_problems(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    entries = schema.get(RULES_KEY, [])
    if not entries:
        return
    given = _without_nulls(schema, value)
    for entry in entries:
        if not python_rules()[entry["rule"]].holds(given):
            yield _problem(path + entry.get("fieldPath", ""), entry["message"])


def _without_nulls(schema: Schema, value: Any) -> Any:
    """``value`` as it is after admission dropped the fields that are null."""
    if isinstance(value, list):
        return [_without_nulls(schema["items"], item) for item in value]
    if not isinstance(value, Mapping) or FREE_FORM_KEY in schema:
        return value
    known: Mapping[str, Schema] = schema.get("properties", {})
    values: Schema = schema.get("additionalProperties", {})
    return {
        key: _without_nulls(known.get(key, values), member)
        for key, member in value.items()
        if member is not None
    }


def _as_sent(value: Any) -> Any:
    """``value`` with 4.0 as 4, as kubectl sends it: in JSON both are one number."""
    if isinstance(value, Mapping):
        return {key: _as_sent(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_as_sent(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "object": (lambda value: isinstance(value, Mapping), "an object (key: value)"),
    "array": (lambda value: isinstance(value, list), "a list"),
    "string": (lambda value: isinstance(value, str), "text"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "integer": (_whole, "a whole number"),
    "number": (
        lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        "a number",
    ),
}


def _type_problem(schema: Schema, value: Any) -> str | None:
    if INT_OR_STRING in schema:
        if isinstance(value, str) or _whole(value):
            return None
        return f'is {_shown(value)} and must be a whole number or text; write "{value}" in quotes'
    fits, wanted = _TYPES[schema["type"]]
    if fits(value):
        return None
    if schema["type"] == "string" and not isinstance(value, Mapping | list | None):
        return f'is {_shown(value)} and must be text; write "{value}" in quotes'
    return f"is {_shown(value)} and must be {wanted}"


def _bound_problems(schema: Schema, value: Any) -> Iterator[str]:
    """What is wrong with a value of the right type, by the bounds of its own node."""
    if "enum" in schema and value not in schema["enum"]:
        choices = ", ".join(map(str, schema["enum"]))
        near = _nearest(str(value), schema["enum"])
        yield f"is {_shown(value)} and must be one of {choices}" + (
            f"; did you mean {near}?" if near else ""
        )
    if isinstance(value, str):
        yield from _sized(schema, len(value), "Length", "character")
        if "pattern" in schema and re.fullmatch(schema["pattern"], value) is None:
            yield f"is {_shown(value)} and must be {MEANINGS[schema['pattern']]}"
    elif isinstance(value, list):
        yield from _sized(schema, len(value), "Items", "entry")
    elif isinstance(value, Mapping):
        yield from _sized(schema, len(value), "Properties", "entry")
    else:
        if "minimum" in schema and value < schema["minimum"]:
            yield f"is {_shown(value)} and must be at least {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"is {_shown(value)} and must be at most {schema['maximum']}"


def _sized(schema: Schema, size: int, of_what: str, unit: str) -> Iterator[str]:
    for key, wrong, bound_name in (
        (f"min{of_what}", size < schema.get(f"min{of_what}", 0), "at least"),
        (f"max{of_what}", size > schema.get(f"max{of_what}", size), "at most"),
    ):
        if wrong:
            bound = schema[key]
            yield f"has {_count(size, unit)} and must have {bound_name} {_count(bound, unit)}"


def _count(number: int, unit: str) -> str:
    if number == 1:
        return f"1 {unit}"
    return f"{number} {unit.removesuffix('y')}ies" if unit.endswith("y") else f"{number} {unit}s"


def _unknown_field(name: str, prefix: str, known: Mapping[str, Schema]) -> str:
    near = _nearest(name, known)
    if near:
        return f"unknown field; did you mean {prefix}{near}?"
    elsewhere = [path for path in field_paths() if _plain(path.rpartition(".")[2]) == _plain(name)]
    if elsewhere:
        depth = min(path.count(".") for path in elsewhere)  # no bound of the same name below it
        meant = [path for path in elsewhere if path.count(".") == depth]
        return f"unknown field; did you mean {' or '.join(meant[:3])}?"
    return f"unknown field; remove it, or use one of {', '.join(sorted(known))}"


@functools.cache
def field_paths() -> tuple[str, ...]:
    """The path of every field of ``spec``, in the types' order."""

    def walk(schema: Schema, path: str) -> Iterator[str]:
        for name, member in schema.get("properties", {}).items():
            yield f"{path}.{name}"
            yield from walk(member, f"{path}.{name}")
        if "items" in schema:
            yield from walk(schema["items"], f"{path}[]")

    return tuple(walk(spec_schema(), "spec"))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _nearest(name: str, known: Any) -> str | None:
    """The known name that ``name`` most likely was meant to be, ignoring case and separators."""
    plain = {_plain(str(candidate)): str(candidate) for candidate in known}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return truncate(repr(text) if isinstance(value, str) else text, 80)


def _problem(path: str, message: str) -> Problem:
    return Problem(field=truncate(path, _PATH_LIMIT), reason=REASON, message=truncate(message))
