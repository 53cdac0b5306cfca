"""The base of every type of the resource: camelCase in JSON, snake_case in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from .fields import without_nulls

GROUP = "vllm-operator.io"
VERSION = "v1alpha1"
KIND = "VLLMServer"
PLURAL = "vllmservers"
API_VERSION = f"{GROUP}/{VERSION}"
PORT = 8000
"""Where a server answers: its engine, its pods and its Service."""
PORT_NAME = "http"
"""Name of the port on pods and Service."""


class ResourceModel(BaseModel):
    """Reads what it knows and ignores the rest: an older operator must read a newer resource.

    The API server refuses unknown fields by the generated schema, and the command line checks a
    file against that same schema, so leniency here hides nothing from a user.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """A field that is null was not given: the API server drops it, so a file means the same."""
        return without_nulls(data)

    def to_json_object(self) -> dict[str, Any]:
        """The object as it stands in a manifest: camelCase, without what was never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition over several fields, asked twice: in CEL by the API server, in Python offline.

    ``holds`` gets the same value as ``self`` in ``cel``, without nulls and correct by the rest of
    the schema. The message names the fields and the remedy. ``field``, a member of the object, is
    where both report the failure; without it, they report it at the object.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str | None = None

    def entry(self) -> dict[str, str]:
        """The rule as one entry of ``x-kubernetes-validations``."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return entry


def validations(*rules: Rule, **extra: Any) -> dict[str, Any]:
    """The ``json_schema_extra`` that carries CEL rules (and further schema keywords)."""
    return {"x-kubernetes-validations": [rule.entry() for rule in rules], **extra}
