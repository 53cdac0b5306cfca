"""What a new plan would change, as text for a person."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.quantity import GIBIBYTE

SHOWN = 6
TOLD_BY_PLACEMENT = (
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--enable-expert-parallel",
)


def plan_difference(old: Plan, new: Plan | Unplanned) -> str | None:
    """The first differences between two plans, most important first; None where both do the same.

    What only explains (reasons, rejected layouts, hashes) is no difference.
    """
    if isinstance(new, Unplanned):
        first = f": {new.problems[0].message}" if new.problems else ""
        return f"it can no longer be planned{first}"
    found = list(_differences(old, new))
    if not found:
        return None
    rest = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def is_a_tie(old: Plan, new: Plan) -> bool:
    """Whether a plan is as good as another one, on other GPUs: no reason to move."""
    before, after = old.placement, new.placement
    return (
        before.gpu != after.gpu
        and before.gpus_per_replica == after.gpus_per_replica
        and old.capacity.max_model_len == new.capacity.max_model_len
    )


def is_cheaper(one: Plan, other: Plan, *, by_tokens: bool) -> bool:
    """Whether a plan costs less: an hour, or for a million output tokens (``by_tokens``: the
    figures are of one load) where both say that.

    Less than one without a price is nothing.
    """
    mine, theirs = one.cost, other.cost
    if mine is None or theirs is None:
        return False
    tokens = (mine.million_output_tokens, theirs.million_output_tokens)
    if by_tokens and tokens[0] is not None and tokens[1] is not None:
        return tokens[0] < tokens[1]
    return mine.hour < theirs.hour


def _differences(old: Plan, new: Plan) -> Iterator[str]:
    yield from _placement(old, new)
    yield from _engine(old, new)
    yield from _defaults(old, new)
    yield from _model_and_memory(old, new)


def _changed(name: str, before: object, after: object) -> Iterator[str]:
    if before != after:
        yield f"{name} {before} -> {after}"


def _placement(old: Plan, new: Plan) -> Iterator[str]:
    before, after = old.placement, new.placement
    yield from _changed(
        "GPUs",
        f"{before.gpus_per_replica} x {before.gpu}",
        f"{after.gpus_per_replica} x {after.gpu}",
    )
    yield from _changed("tensor parallel", before.tensor, after.tensor)
    yield from _changed("pipeline parallel", before.pipeline, after.pipeline)
    yield from _changed("data parallel", before.data, after.data)
    yield from _changed("expert parallel", before.expert, after.expert)
    yield from _changed("nodes", before.nodes, after.nodes)


def _engine(old: Plan, new: Plan) -> Iterator[str]:
    yield from _changed("vLLM", old.engine.version, new.engine.version)
    yield from _changed("image", old.engine.image, new.engine.image)
    before, after = _arguments(old), _arguments(new)
    for name in [*after, *(name for name in before if name not in after)]:
        if name not in TOLD_BY_PLACEMENT:
            yield from _changed(
                name.removeprefix("--"), before.get(name, "unset"), after.get(name, "unset")
            )
    for name in sorted(old.engine.env.keys() | new.engine.env.keys()):
        yield from _changed(
            name, old.engine.env.get(name, "unset"), new.engine.env.get(name, "unset")
        )


def _defaults(old: Plan, new: Plan) -> Iterator[str]:
    before, after = ({one.field: one.value for one in plan.defaults or ()} for plan in (old, new))
    for field in sorted(before.keys() | after.keys()):
        name = f"the platform's default of {field}"
        yield from _changed(name, before.get(field, "unset"), after.get(field, "unset"))


def _arguments(plan: Plan) -> dict[str, str]:
    found: dict[str, str] = {}
    for flag in plan.flags:
        value = flag.value or "on"
        found[flag.name] = f"{found[flag.name]} {value}" if flag.name in found else value
    return found


def _model_and_memory(old: Plan, new: Plan) -> Iterator[str]:
    yield from _changed(
        "start-up budget",
        f"{old.startup.budget_seconds:g} s",
        f"{new.startup.budget_seconds:g} s",
    )
    for name, before, after in (
        ("weights a GPU", old.memory.weights, new.memory.weights),
        ("KV cache a GPU (low)", old.memory.kv_cache.low, new.memory.kv_cache.low),
    ):
        yield from _changed(name, f"{before / GIBIBYTE:.2f} GiB", f"{after / GIBIBYTE:.2f} GiB")
