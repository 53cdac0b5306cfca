"""What the user may want to change, with what it would bring. Nothing of it is done unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.api.performance import Drafts, Performance
from vllm_operator.api.plan import Advice
from vllm_operator.api.v1alpha1 import Engine, Model, VLLMServer
from vllm_operator.hardware.prices import NO_PRICES, PRODUCTS_FIELD
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.specification import Asked, read_specification
from vllm_operator.sizing.asked.workload_profiles import WORTH_SECONDS
from vllm_operator.sizing.layout.prefixes import prefixes_of
from vllm_operator.sizing.layout.quantised import quantised
from vllm_operator.sizing.layout.search import Layout, find_layout
from vllm_operator.sizing.split.divisions import divisions

QUANTIZATION_FIELD: Final = "spec.engine.quantization"
SPECULATIVE_FIELD: Final = "spec.engine.speculative"
MOST_CHECKPOINTS: Final = 2
"""Quantised checkpoints of a model that are named."""


def advice_on(
    asked: Asked, layout: Layout, inputs: PlanningInputs, performance: Performance | None
) -> list[Advice] | None:
    """Everything that is worth saying; None where that is nothing."""
    found = [*_quantised(asked, layout, inputs), *_on_prefixes(asked, layout)]
    found += _on_prices(asked, layout)
    if performance is not None and performance.drafts is not None:
        found += _on_drafts(performance, performance.drafts)
    return found or None


def _on_prices(asked: Asked, layout: Layout) -> Iterator[Advice]:
    """Prices, and none of the product that is taken."""
    product = layout.gpu.offer.product
    if asked.prices != NO_PRICES and asked.prices.of(product) is None:
        yield Advice(
            field=PRODUCTS_FIELD,
            message=f"has no price of {product}, so that nothing is said of what it costs",
        )


def _on_prefixes(asked: Asked, layout: Layout) -> Iterator[Advice]:
    """A shared prefix that is computed for each request anew."""
    prefixes = prefixes_of(asked, first_engine=layout.cache.settings.first_engine)
    if asked.load.shared_tokens and prefixes is not None and not prefixes.cached:
        yield Advice(
            field="spec.engine.prefixCaching",
            message=f"prefixes are not cached ({prefixes.reason}), and the "
            f"{asked.load.shared_tokens} tokens that all prompts begin with "
            "(spec.workload.sharedPrefixTokens) are computed and kept for each request anew; true "
            "spares that",
        )


def _on_drafts(performance: Performance, drafts: Drafts) -> Iterator[Advice]:
    """Why drafts cannot pay, or do not with the share of them that is said to be accepted."""
    load = (
        f"with {performance.concurrency} requests of {performance.prompt_tokens} + "
        f"{performance.output_tokens} tokens at once"
    )
    without = f"{drafts.output_tokens_per_second_without:,.0f} output tokens a second"
    share = drafts.weight_share
    large = (
        ""
        if share is None
        else (
            f"; a pass of the draft reads {share:.0%} of the bytes of one of the model, a smaller "
            "one costs less"
        )
    )
    if drafts.break_even_acceptance is None:
        yield Advice(
            field=SPECULATIVE_FIELD,
            message=f"drafts cannot pay {load}: without them it makes {without}, with them less "
            f"even if every one is accepted{large}",
        )
    elif drafts.acceptance is not None and drafts.acceptance < drafts.break_even_acceptance:
        yield Advice(
            field=SPECULATIVE_FIELD,
            message=f"drafts do not pay {load}: {drafts.acceptance:.0%} of them are accepted "
            f"(spec.workload.draftAcceptance), and from {drafts.break_even_acceptance:.0%} on it "
            f"makes more than the {without} without them{large}",
        )
    elif drafts.answer_share_at_best > WORTH_SECONDS:
        yield Advice(
            field=SPECULATIVE_FIELD,
            message=f"outputs of {performance.output_tokens} tokens are too short for drafts to "
            f"pay: if every one is accepted, an answer takes {drafts.answer_share_at_best:.0%} of "
            "its time without them, as most of it is its prompt",
        )


def _quantised(asked: Asked, layout: Layout, inputs: PlanningInputs) -> Iterator[Advice]:
    """Fewer bits with which half the GPUs, or less, hold requests that are as long."""
    gpus = layout.division.gpus
    if gpus < 2 or asked.checkpoint.quantization.method is not None:
        return
    if asked.engine.quantization is not None:
        return
    product = layout.gpu.offer.product
    found = quantised(asked, _limits(layout))
    if found is not None:
        method, in_fewer_bits = found
        fewer = _fewest_for(in_fewer_bits, layout)
        if fewer is not None:
            yield Advice(
                field=QUANTIZATION_FIELD,
                message=f"{method} would take {fewer} instead of {gpus} {product} for requests "
                "that are as long: weights are rounded to 8 bits while they are loaded, which "
                "changes answers a little, so it is never chosen unasked",
            )
    if inputs.model is None:
        return
    named = 0
    for name in catalogue.quantized_of(asked.spec.model.id):
        given = replace(inputs, model=catalogue.find(name))
        fewer = _fewest(_with_model(asked.server, name, layout), given, layout)
        if named < MOST_CHECKPOINTS and fewer is not None:
            named += 1
            yield Advice(
                field="spec.model.id",
                message=f"{name}, a quantised checkpoint of this model, would take {fewer} instead "
                f"of {gpus} {product} for requests that are as long; its answers are its own, so "
                "it is never chosen unasked",
            )


def _with_model(server: VLLMServer, name: str, layout: Layout) -> VLLMServer:
    given = server.spec.model
    model = Model(
        id=name,
        served_name=given.served_name,
        additional_served_names=given.additional_served_names,
        trust_remote_code=given.trust_remote_code,
    )
    engine = (server.spec.engine or Engine()).model_copy(update=_limits(layout))
    spec = server.spec.model_copy(update={"engine": engine, "model": model})
    return server.model_copy(update={"spec": spec})


def _limits(layout: Layout) -> dict[str, int]:
    """The limits of a layout as pins: they do not give way."""
    return {
        "max_model_len": layout.max_model_len.value,
        "max_num_seqs": layout.max_num_seqs.value,
        "max_num_batched_tokens": layout.max_num_batched_tokens.value,
    }


def _fewest(server: VLLMServer, inputs: PlanningInputs, layout: Layout) -> int | None:
    """GPUs of the smallest layout on the same product, at most half as many; None for none."""
    asked, problems = read_specification(server, inputs)
    return None if asked is None or problems else _fewest_for(asked, layout)


def _fewest_for(asked: Asked, layout: Layout) -> int | None:
    """As ``_fewest``, of what was read."""
    pins = replace(asked.pins, tensor=None, pipeline=None)
    largest = layout.gpu.largest_world
    found = divisions(asked.architecture, pins, largest, 1, asked.whole_experts).tensor
    fewest = None
    for division in reversed([one for one in found if 2 * one.gpus <= layout.division.gpus]):
        if not isinstance(find_layout(asked, layout.gpu, division), Layout):
            break  # fewer GPUs hold no more
        fewest = division.gpus
    return fewest
