"""The field reference ``docs/reference/vllmserver.md``, generated from schema and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .base import API_VERSION, KIND
from .conditions import REASONS
from .crd import COLUMNS, WIDE_COLUMNS, server_schema
from .patterns import MEANINGS
from .schema import FREE_FORM_KEY, INT_OR_STRING, RULES_KEY, Schema

REGENERATE: Final = "vllm-operator crd --reference > docs/reference/vllmserver.md"

_INTRODUCTION = f"""\
<!-- Generated from the types in vllm_operator.api: {REGENERATE} -->

# {KIND}

`{API_VERSION}`, namespaced; `kubectl get vllm` lists the servers of a namespace. Everything
but `spec.model.id` is optional, and what is left out is chosen by the operator and explained in
`status.plan`:

```yaml
apiVersion: {API_VERSION}
kind: {KIND}
metadata:
  name: qwen
spec:
  model:
    id: Qwen/Qwen2.5-7B-Instruct
```

The API server checks types, bounds and rules at admission and refuses a manifest with the field's
name; `vllm-operator plan` checks a file by the same rules without a cluster. A field that is null
counts as left out; only server-side apply refuses it, with its name, as for every custom resource.
`kubectl explain vllmserver.spec --recursive` shows the same descriptions.
"""


def reference_markdown() -> str:
    """The reference as Markdown: a row for each field, condition and reason."""
    schema = server_schema()
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    return "\n".join(
        (
            _INTRODUCTION,
            "## metadata\n",
            *_rules_of(schema, "metadata.name"),
            *_section(spec, "spec"),
            *_section(status, "status"),
            *_columns(),
            *_conditions(),
        )
    )


def _section(schema: Schema, path: str) -> Iterator[str]:
    """A heading, the rows of the object's own fields and its rules; then its objects' sections."""
    level = "#" * min(2 + path.count("."), 4)
    yield f"{level} {path}\n"
    yield f"{schema['description']}\n"
    yield from _table(
        ("Field", "Type", "Bounds", "Description"),
        (
            (
                f"`{path}.{name}`",
                type_name(member),
                bounds(member, required=name in schema.get("required", [])),
                member["description"],
            )
            for name, member in schema["properties"].items()
        ),
    )
    yield from _rules(schema, path)
    for name, member in schema["properties"].items():
        for nested, here in ((member, f"{path}.{name}"), (member.get("items"), f"{path}.{name}[]")):
            if nested is not None and "properties" in nested:
                yield from _section({"description": member["description"], **nested}, here)


def _rules(schema: Schema, path: str) -> Iterator[str]:
    found = [(path, rule) for rule in schema.get(RULES_KEY, [])]
    for name, member in schema["properties"].items():
        if "properties" not in member:
            found += [(f"{path}.{name}", rule) for rule in member.get(RULES_KEY, [])]
    lines = [f"- `{here}{rule.get('fieldPath', '')}`: {rule['message']}" for here, rule in found]
    if lines:
        yield "Refused:\n"
        yield "\n".join(lines) + "\n"


def _rules_of(schema: Schema, path: str) -> Iterator[str]:
    for rule in schema[RULES_KEY]:
        yield f"- `{path}`: {rule['message']}\n"


def _columns() -> Iterator[str]:
    yield "## Columns of `kubectl get vllm`\n"
    yield from _table(
        ("Column", "Source", "Description"),
        ((name.upper(), f"`{path}`", text) for name, _, text, path in (*COLUMNS, *WIDE_COLUMNS)),
    )


def _conditions() -> Iterator[str]:
    yield "## Conditions and their reasons\n"
    yield (
        "All of them stand in `status.conditions` from the first visit on, `MetricsAvailable` and\n"
        "`Tuned` only where `spec.autotune.mode` is `Recommend` or `Auto`, `Routed` only with\n"
        "`spec.routing.inferencePool`. `Ready` may also carry the reason of the condition that\n"
        "stops it.\n"
    )
    for condition, reasons in REASONS.items():
        yield f"### {condition}\n"
        yield from _table(
            ("Reason", "Meaning"), ((f"`{name}`", text) for name, text in reasons.items())
        )


def type_name(schema: Schema) -> str:
    """What a reader calls the type of a node."""
    if INT_OR_STRING in schema:
        return "quantity"
    kind = str(schema["type"])
    if kind == "array":
        return f"list of {type_name(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_name(schema['additionalProperties'])}"
    if FREE_FORM_KEY in schema:
        return "free-form object"
    return kind


def bounds(schema: Schema, *, required: bool = False) -> str:
    """The bounds of a node in words."""
    found = ["required"] if required else []
    if "default" in schema:
        found.append(f"default {schema['default']}")
    if "enum" in schema:
        found.append(", ".join(f"`{value}`" for value in schema["enum"]))
    if "minimum" in schema and INT_OR_STRING not in schema:
        found.append(f"{schema['minimum']} to {schema['maximum']}")
    for kind, unit in (("Length", "characters"), ("Items", "entries"), ("Properties", "entries")):
        least, most = schema.get(f"min{kind}"), schema.get(f"max{kind}")
        if most is not None:
            found.append(f"{least} to {most} {unit}" if least else f"at most {most} {unit}")
    if "pattern" in schema:
        found.append(MEANINGS[schema["pattern"]])
    inner = schema.get("additionalProperties") or schema.get("items")
    if inner is not None and "properties" not in inner and (words := bounds(inner)):
        found.append(f"each: {words}")
    return "; ".join(found)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = [header, ("---",) * len(header), *rows]
    yield "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
