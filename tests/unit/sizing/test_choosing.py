"""Which layout is taken of those that fit, what the others are told, and what a layout holds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, offer
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, Infeasible
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.layout import choice
from vllm_operator.sizing.layout.fit import Fit
from vllm_operator.sizing.layout.search import Rejection
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout
from vllm_operator.sizing.split.parallelism import SINGLE

ANY_PROFILE = SimpleNamespace(cheap=False, whole=False, fast=False)


def layout(
    product: str = "A", gpus: int = 2, length: int = 8192, whole: bool = False, **of: int
) -> Any:
    """A layout as far as a choice reads it."""
    offered = offer(product, 80, per_node=of.get("per_node", 8), nodes=of.get("offered", 1))
    parallelism = SimpleNamespace(tensor=of.get("tensor", gpus), pipeline=of.get("pipeline", 1))
    division = SimpleNamespace(gpus=gpus, nodes=of.get("nodes", 1), parallelism=parallelism)
    return SimpleNamespace(
        gpu=SimpleNamespace(offer=offered),
        division=division,
        parallelism=parallelism,
        max_model_len=SimpleNamespace(value=length),
        whole_context=whole,
    )


def asked(**profile: bool) -> Any:
    kind = SimpleNamespace(**{**vars(ANY_PROFILE), **profile})
    return SimpleNamespace(features=SimpleNamespace(profile=kind))


BEST = layout()


@pytest.mark.parametrize(
    ("other", "profile"),
    [
        (layout(nodes=2, whole=True), {}),
        (layout(length=8191), {}),
        (layout(gpus=3), {}),
        (layout("B"), {}),
        (layout(gpus=1, length=8191), {}),
        (layout(length=99_999, gpus=3), {"cheap": True}),
        (layout(nodes=2, length=99_999, whole=False), {"whole": True}),
    ],
)
def test_the_better_of_two_layouts_goes_first(other: Any, profile: dict[str, bool]) -> None:
    rank = choice._ranking(asked(**profile))
    assert rank(BEST) < rank(other)


@pytest.mark.parametrize(
    ("other", "profile"),
    [
        (layout(whole=True, gpus=9, length=1), {}),
        (layout("B", offered=2), {}),
        (layout("B", per_node=9), {}),
        (layout(gpus=1, length=1), {"cheap": True}),
        (layout(nodes=2, whole=True, gpus=9), {"whole": True}),
    ],
)
def test_the_worse_of_two_layouts_goes_last(other: Any, profile: dict[str, bool]) -> None:
    rank = choice._ranking(asked(**profile))
    assert rank(BEST) > rank(other)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (layout(nodes=3), "fits on 3 nodes, and one of A is enough"),
        (layout(length=8191), "fits requests of 8191 tokens, less than the one taken"),
        (layout(gpus=3), "fits, and needs 3 GPUs where 2 are enough"),
        (
            layout("B"),
            "fits as well; the cluster has more of the one taken, or its name comes first",
        ),
    ],
)
def test_a_layout_that_is_not_taken_is_told_why(other: Any, told: str) -> None:
    assert choice._not_taken(asked(), other, BEST, kept=False) == told


def test_a_layout_with_less_than_the_whole_context_is_told_its_own() -> None:
    found = choice._not_taken(asked(), layout(length=7), layout(whole=True), kept=False)
    assert found == "requests of at most 7 tokens fit"


def test_where_the_product_in_force_is_kept_the_others_are_told_that() -> None:
    found = choice._not_taken(asked(), layout("B"), BEST, kept=True)
    assert found == "fits, and the server already runs on A"


@pytest.mark.parametrize(("length", "worth"), [(12_287, False), (12_288, True)])
def test_stages_that_nobody_asked_for_must_hold_requests_half_as_long_again(
    length: int, worth: bool
) -> None:
    fewer, more = layout(pipeline=2), layout(pipeline=4, length=length)
    rejections: list[Rejection] = []
    assert choice._worth(fewer, more, rejections) is (more if worth else fewer)
    (rejection,) = rejections
    assert rejection.division is (fewer if worth else more).division
    assert rejection.problem.message == (
        "holds requests of at most 8192 tokens"
        if worth
        else "holds requests of 12287 tokens, where 8192 fit with fewer stages, sooner"
    )


def rejected(product: str, gpus: int, nodes: int = 1, *, illegal: bool = False) -> Rejection:
    one = layout(product, gpus, nodes=nodes)
    problem = IllegalPin("f", "no") if illegal else Infeasible("f", "no")
    return Rejection(one.gpu, one.division, problem, illegal=illegal)


def test_what_is_illegal_is_left_out_first_and_the_rest_is_listed_by_product_and_size() -> None:
    found = [
        rejected("B", 1),
        rejected("A", 8, illegal=True),
        rejected("A", 4, 2),
        rejected("A", 4),
        rejected("A", 2),
    ]
    listed = [(one.gpu, one.tensor, one.nodes) for one in choice._listed(found, 9)]
    assert listed == [("A", 2, 1), ("A", 4, 1), ("A", 8, 1), ("A", 4, 2), ("B", 1, 1)]
    assert ("A", 8, 1) not in [(one.gpu, one.tensor, one.nodes) for one in choice._listed(found, 4)]
    assert choice._listed(found, -1) == []


CACHE = cache_layout(
    architecture_from_config(catalogue.find(LLAMA_8B).config),  # type: ignore[union-attr]
    CacheSettings(Version((0, 30, 0)), SINGLE, 16, 16, 2048, prefix_caching=True),
)
BLOCK = 16 * 131_072


def fit(low: int) -> Fit:
    return Fit(None, None, CACHE, low)  # type: ignore[arg-type]


def test_three_requests_of_two_blocks_take_seven_blocks_with_the_null_block() -> None:
    exact, short = fit(7 * BLOCK), fit(7 * BLOCK - 1)
    assert (exact.bytes_of(32, 3), exact.blocks) == (7 * BLOCK, 7)
    assert (exact.held(32), short.held(32)) == (3, 2)
    assert (exact.held(17), exact.held(33)) == (3, 2)
    assert exact.holds(32, 3)
    assert not short.holds(32, 3)
    assert fit(-1).held(32) == 0
    assert fit(0).held(32) == 0


def test_the_margin_is_what_one_request_leaves() -> None:
    assert fit(3 * BLOCK).margin(32) == 0
    assert fit(3 * BLOCK + 5).margin(32) == 5
    assert fit(3 * BLOCK - 5).margin(32) == -5
    assert replace(fit(3 * BLOCK), low=0).margin(16) == -2 * BLOCK
