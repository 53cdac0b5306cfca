"""Refusal of fields that are part of the contract and that this release does not act on.

The CustomResourceDefinition refuses them at admission by the same declarations
(``api.fields.later``); this walk serves the command line and resources that were stored before.
"""

from __future__ import annotations

from pydantic import BaseModel

from vllm_operator.errors import IllegalPin

from .fields import later_rule, refusal


def refused_fields(spec: BaseModel, path: str = "spec") -> list[IllegalPin]:
    """One error for each field below ``path`` that is set and not available in this release."""
    errors: list[IllegalPin] = []
    for name, info in type(spec).model_fields.items():
        value = getattr(spec, name)
        if value is None:
            continue
        here = f"{path}.{info.alias or name}"
        rule = later_rule(info)
        if rule is not None and value != rule["accepts"]:
            errors.append(IllegalPin(here, refusal(here, rule["accepts"])))
        elif isinstance(value, BaseModel):
            errors.extend(refused_fields(value, here))
    return errors
