"""Why a rollout is under way: what changed between the plan before and the plan in force. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vllm_operator.api.fields import as_json
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.manifests.labels import REPLAN_ANNOTATION
from vllm_operator.sizing.plan.difference import plan_difference

from .revisions import LIVE_PATHS, Pinned

VALUE_LIMIT: Final = 80
"""Characters of a value that are shown."""

UNSET: Final = "unset"


def reason_to_roll(before: Pinned, now: Pinned) -> str | None:
    """The first difference that made the plan in force another one; None where there is none."""
    changed = first_difference(before.spec, now.spec)
    if changed is not None:
        return changed
    if before.replan != now.replan:
        return f"annotation {REPLAN_ANNOTATION}: {_shown(before.replan)} -> {_shown(now.replan)}"
    if before.plan is not None and now.plan is not None:
        return plan_difference(before.plan, now.plan)
    return None


def first_difference(before: VLLMServerSpec, now: VLLMServerSpec) -> str | None:
    """``spec.engine.maxNumSeqs: 256 -> 128``, and how many more fields changed."""
    found = list(_differences("spec", before.to_json_object(), now.to_json_object()))
    if not found:
        return None
    more = len(found) - 1
    return found[0] + (f" (and {more} more)" if more else "")


def _differences(path: str, before: Any, now: Any) -> Iterator[str]:
    if before == now or path in LIVE_PATHS:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*now, *(name for name in before if name not in now)]:
            yield from _differences(f"{path}.{name}", before.get(name), now.get(name))
    elif before is None and isinstance(now, Mapping):
        for name, member in now.items():
            yield from _differences(f"{path}.{name}", None, member)
    elif now is None and isinstance(before, Mapping):
        for name, member in before.items():
            yield from _differences(f"{path}.{name}", member, None)
    else:
        yield f"{path}: {_shown(before)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    if value is None:
        return UNSET
    text = as_json(value)
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 1]}…"
