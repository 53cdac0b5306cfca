"""What the platform gives to servers that do not say it themselves: the chart's value ``defaults``.

It has the shape of a specification, cut to the fields of ``TAKEN``, and is checked by the same
schema. ``overlaid`` is the one place where both meet: whoever plans or renders sees a server that
says everything itself.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from vllm_operator.api.base import ResourceModel
from vllm_operator.api.canonical import canonical_json
from vllm_operator.api.offline import spec_schema, value_problems
from vllm_operator.api.plan import PlatformDefault, Problem
from vllm_operator.api.pod import PodSpec
from vllm_operator.api.schema import Schema
from vllm_operator.api.storage import Storage
from vllm_operator.api.v1alpha1 import Engine, VLLMServer, VLLMServerSpec
from vllm_operator.engine.environment import refused_because

VALUE: Final = "defaults"
"""The chart's value."""

POD_FIELDS: Final = (
    "labels",
    "annotations",
    "node_selector",
    "tolerations",
    "image_pull_secrets",
    "runtime_class_name",
    "scheduler_name",
    "volumes",
    "volume_mounts",
)

TAKEN: Final = (
    "model.storage.persistentVolumeClaim.claimName",
    "model.storage.persistentVolumeClaim.path",
    "model.storage.hostPath.path",
    "model.storage.emptyDir",
    "model.storage.ephemeral",
    "engine.env",
    *(f"pod.{PodSpec.model_fields[name].alias}" for name in POD_FIELDS),
)
"""Fields below ``spec`` that have defaults. Storage is a cache: a checkpoint is one server's."""

KEYS: Final[Mapping[str, str]] = {"env": "name", "volumes": "name", "volume_mounts": "mount_path"}
"""Lists whose entries are overridden one by one, and by which of their members."""

Part = TypeVar("Part", Engine, PodSpec)


class DefaultModel(ResourceModel):
    """Defaults of ``spec.model``."""

    storage: Storage | None = None


class Defaults(ResourceModel):
    """What servers get that do not say it themselves."""

    model: DefaultModel = DefaultModel()
    engine: Engine = Engine()
    pod: PodSpec = PodSpec()


NO_DEFAULTS: Final = Defaults()


@dataclass(frozen=True, slots=True)
class Overlaid:
    """A server with what the platform adds to it."""

    server: VLLMServer
    given: tuple[PlatformDefault, ...] = ()
    """What was added."""

    def told(self, problem: Problem) -> Problem:
        """A problem of that server: one with a default names the chart's value that gave it."""
        for one in self.given:
            if f"{problem.field}.".startswith((f"{one.field}.", f"{one.field}[")):
                value = one.field.replace("spec", VALUE, 1)
                message = f"by the operator's chart value {value}: {problem.message}"
                return problem.model_copy(update={"message": message})
        return problem


def read_defaults(text: str) -> tuple[Defaults, list[Problem]]:
    """The defaults as the chart passes them (JSON; empty for none), or all that is wrong in them.

    Where something is wrong, there are none.
    """
    if not text.strip():
        return NO_DEFAULTS, []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return NO_DEFAULTS, [_problem(VALUE, f"is no JSON: {error}")]
    return checked_defaults(document)


def checked_defaults(document: Any) -> tuple[Defaults, list[Problem]]:
    """The defaults of a document with the chart's value, or all that is wrong in them."""
    problems = list(value_problems(_schema(), document, VALUE))
    if problems:
        return NO_DEFAULTS, problems
    found = Defaults.model_validate(document)
    for variable in found.engine.env or ():
        remedy = refused_because(variable.name)
        if remedy is not None:
            field = f"{VALUE}.engine.env[{variable.name}]"
            problems.append(_problem(field, f"may not be set here; {remedy}"))
    return (NO_DEFAULTS, problems) if problems else (found, [])


def without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's value as the chart passes it on: an empty field of a part is one that is not
    given."""
    parts = {
        part: {name: value for name, value in fields.items() if value}
        if isinstance(fields, Mapping)
        else fields
        for part, fields in values.items()
    }
    return {part: fields for part, fields in parts.items() if fields}


def overlaid(server: VLLMServer, defaults: Defaults) -> Overlaid:
    """The server with the defaults of what it does not say.

    Entries of maps, and of the lists of ``KEYS``, are overridden one by one, all else as a whole.
    """
    if defaults == NO_DEFAULTS:
        return Overlaid(server)
    spec, given = server.spec, list[PlatformDefault]()
    changed: dict[str, Any] = {}
    storage = defaults.model.storage
    if storage is not None and spec.model.storage is None:
        changed["model"] = spec.model.model_copy(update={"storage": storage})
        given.append(_given("spec.model.storage", storage))
    engine, added = _over(spec.engine or Engine(), defaults.engine, ("env",), "spec.engine")
    if added:
        changed["engine"] = engine
    pod, more = _over(spec.pod or PodSpec(), defaults.pod, POD_FIELDS, "spec.pod")
    if more:
        changed["pod"] = pod
    whole = server.model_copy(update={"spec": spec.model_copy(update=changed)})
    return Overlaid(whole, (*given, *added, *more))


def overlaid_pod(spec: VLLMServerSpec, defaults: Defaults) -> PodSpec:
    """``spec.pod`` with the defaults of what it does not say."""
    return _over(spec.pod or PodSpec(), defaults.pod, POD_FIELDS, "spec.pod")[0]


def _over(
    own: Part, defaults: Part, names: Sequence[str], path: str
) -> tuple[Part, list[PlatformDefault]]:
    changed: dict[str, Any] = {}
    given: list[PlatformDefault] = []
    for name in names:
        here = getattr(own, name)
        taken = _entries(name, here)
        added = {
            key: one
            for key, one in _entries(name, getattr(defaults, name)).items()
            if key not in taken and (key or here is None)
        }
        if not added:
            continue
        changed[name] = _joined(here, added)
        field = f"{path}.{type(own).model_fields[name].alias}"
        given += [_given(f"{field}[{key}]" if key else field, one) for key, one in added.items()]
    return own.model_copy(update=changed), given


def _entries(name: str, value: Any) -> dict[str, Any]:
    """What is overridden one by one, by its key; what is so as a whole, by the empty one."""
    if not value:
        return {}
    if isinstance(value, dict):
        return value
    if name in KEYS:
        return {getattr(one, KEYS[name]): one for one in value}
    return {"": value}


def _joined(own: Any, added: dict[str, Any]) -> Any:
    if "" in added:
        return added[""]
    values = list(added.values())
    if isinstance(values[0], str):
        return {**(own or {}), **added}
    return [*(own or []), *values]


def _given(field: str, value: Any) -> PlatformDefault:
    return PlatformDefault(field=field[:200], value=_shown(value)[:4096])


def _shown(value: Any) -> str:
    """A literal as it is, all else as JSON."""
    plain = _plain(value)
    if isinstance(plain, dict) and plain.keys() == {"name", "value"}:
        plain = plain["value"]
    return plain if isinstance(plain, str) else canonical_json(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.to_json_object() if isinstance(value, ResourceModel) else value


@functools.cache
def _schema() -> Schema:
    """The schema of a specification, cut to the fields of ``TAKEN``."""
    return {**_cut(spec_schema(), [path.split(".") for path in TAKEN]), "required": []}


def _cut(node: Schema, paths: Sequence[Sequence[str]]) -> Schema:
    kept = {}
    for name, member in node["properties"].items():
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            kept[name] = _cut(member, below) if all(below) else member
    required = [name for name in node.get("required", []) if name in kept]
    return {**node, "properties": kept, "required": required}


def _problem(field: str, message: str) -> Problem:
    return Problem(field=field[:200], reason="IllegalPin", message=message[:1024])
