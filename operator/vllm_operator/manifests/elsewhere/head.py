"""The comments at the top: whose plan it is, what to put where, and what has no counterpart."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from vllm_operator.api.plan import Plan
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.manifests.planned import Planned

from .container import Container
from .devices import AMD_NODES, LISTING, Devices
from .fields import Row, Target, of_specification, row_of

WIDTH: Final = 100
SILENCE: Final = "spec.rollout.livenessBudgetSeconds"
DRAIN: Final = "spec.rollout.drainSeconds"
UNLIKE: Final = "Not as in Kubernetes"


def comments(paragraphs: Iterable[str]) -> str:
    """Texts as comment lines, which no text can end."""
    found = []
    for text in paragraphs:
        words = " ".join(text.split())
        found += textwrap.wrap(
            words,
            WIDTH,
            initial_indent="# ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or ["#"]
    return "".join(f"{line}\n" for line in found)


def figures(planned: Planned) -> Iterator[str]:
    """The plan in a few lines."""
    plan = planned.plan
    capacity, placement = plan.capacity, plan.placement
    yield (
        f"{planned.server.metadata.name}: {plan.model.id} by vLLM {plan.engine.version}, as "
        "vllm-operator planned it."
    )
    split = f"tensor parallel {placement.tensor}"
    split += f", pipeline parallel {placement.pipeline}" if placement.pipeline > 1 else ""
    split += f", data parallel {placement.data}" if placement.data > 1 else ""
    yield (
        f"For {placement.gpus_per_replica} x {placement.gpu} ({split}) and this version alone: "
        "plan again for others."
    )
    yield (
        f"Requests of up to {capacity.max_model_len:,} tokens. The KV cache surely holds "
        f"{capacity.kv_tokens.low:,} tokens: {capacity.max_concurrency.low:,.2f} such requests at "
        f"once. At most {capacity.max_num_seqs:,} requests and "
        f"{capacity.max_num_batched_tokens:,} tokens a step."
    )
    yield from _speed(plan)
    yield (
        f"A start takes about {plan.startup.seconds:,.0f} s, and has failed after "
        f"{plan.startup.budget_seconds:,.0f} s. Weights: "
        f"{plan.model.weight_bytes / GIBIBYTE:,.1f} GiB."
    )


def _speed(plan: Plan) -> Iterator[str]:
    speed = plan.performance
    if speed is not None:
        yield (
            f"About {speed.output_tokens_per_second:,.0f} output tokens a second with "
            f"{speed.concurrency:,} requests of {speed.prompt_tokens:,} + {speed.output_tokens:,} "
            "tokens at once."
        )


def needs(container: Container, devices: Devices) -> Iterator[str]:
    """What the machine has to have."""
    words = {"cpu": "CPUs", "memory": "of memory"}
    asked = [f"{amount} {words[name]}" for name, amount in sorted(container.requests.items())]
    yield (
        f"GPUs: {devices.listed}, exactly {len(devices.ids)} ({LISTING[devices.vendor]} lists "
        f"them; --devices chooses others). Beside them, {' and '.join(asked)}."
    )
    if devices.vendor == "AMD" and not container.groups:
        yield (
            f"Where {AMD_NODES[0]} belongs to a group, the server has to be in it: give its number "
            f"(stat -c %g {AMD_NODES[0]}) in spec.pod.securityContext.supplementalGroups."
        )


def untold(planned: Planned, container: Container, target: Target) -> Iterator[str]:
    """What was asked for and is not in what is rendered, by field."""
    rows = list(of_specification(planned.server.spec, target, "told"))
    silence = _always(target)
    for row in [*rows, *(one for one in silence if one not in rows)]:
        yield f"{UNLIKE}: {row.field}: {row.words}."
    if not container.drains:
        yield (
            f"{UNLIKE}: {DRAIN}: vLLM {planned.plan.engine.version} ends running requests when it "
            "is told to stop, and nothing waits for them before; take clients away first."
        )


def _always(target: Target) -> Iterator[Row]:
    """What Kubernetes does unasked, and the target does not."""
    row = row_of(SILENCE, target)
    if row is not None:
        yield row
