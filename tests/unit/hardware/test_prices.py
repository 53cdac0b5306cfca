"""Prices of GPUs: which product has which, and what is no price."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vllm_operator.hardware.prices import NO_PRICES, Prices, checked_prices, read_prices

PRICES = Prices("EUR", (("H100", 3.0), ("H100 NVL", 2.5), ("L4", 0.7), ("my-card", 1.0)))


@pytest.mark.parametrize(
    ("product", "price"),
    [
        ("NVIDIA-L4", 0.7),  # by another name of it
        ("nvidia l4", 0.7),
        ("NVIDIA-H100-80GB-HBM3", 3.0),  # by its family
        ("NVIDIA-H100-NVL", 2.5),  # its own goes before its family's
        ("H100", 3.0),
        ("my-card", 1.0),  # the catalogue does not know it
        ("NVIDIA-A100-SXM4-80GB", None),
        ("another-card", None),
    ],
)
def test_a_product_has_its_own_price_else_that_of_its_family(
    product: str, price: float | None
) -> None:
    assert PRICES.of(product) == price


def test_a_family_has_no_price_of_one_of_its_products() -> None:
    assert Prices("USD", (("NVIDIA-H100-80GB-HBM3", 3.0),)).of("H100") is None


def test_no_prices_are_none() -> None:
    assert read_prices("") == (NO_PRICES, [])
    assert checked_prices({"currency": "USD", "perGPUHour": {}}) == (NO_PRICES, [])


def test_prices_are_read_as_the_chart_passes_them() -> None:
    text = json.dumps({"currency": "EUR", "perGPUHour": {"L4": 1, "H100": 2.5}})
    assert read_prices(text) == (Prices("EUR", (("H100", 2.5), ("L4", 1.0))), [])


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "prices"),
        ({"perHour": {}}, "prices.perHour"),
        ({"currency": 3}, "prices.currency"),
        ({"currency": "x" * 17}, "prices.currency"),
        ({"perGPUHour": [1]}, "prices.perGPUHour"),
        ({"perGPUHour": {str(one): 1 for one in range(65)}}, "prices.perGPUHour"),
        ({"perGPUHour": {"L4": 0}}, "prices.perGPUHour[L4]"),
        ({"perGPUHour": {"L4": True}}, "prices.perGPUHour[L4]"),
        ({"perGPUHour": {"L4": "1"}}, "prices.perGPUHour[L4]"),
        ({"perGPUHour": {"L4": float("inf")}}, "prices.perGPUHour[L4]"),
        ({"perGPUHour": {"": 1}}, "prices.perGPUHour[]"),
    ],
)
def test_what_is_no_price_is_told_by_its_field(document: Any, field: str) -> None:
    found, problems = checked_prices(document)
    assert found == NO_PRICES
    assert [one.field for one in problems] == [field]


def test_text_that_is_no_json_is_told() -> None:
    (problem,) = read_prices("{")[1]
    assert problem.field == "prices"
    assert problem.message.startswith("is no JSON")
