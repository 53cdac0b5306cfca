"""What an hour of a GPU costs: given by whoever runs the cluster, never known here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.plan import Problem

from . import catalogue

VALUE: Final = "prices"
"""The chart's value."""
BY_PRODUCT: Final = "perGPUHour"
PRODUCTS_FIELD: Final = f"{VALUE}.{BY_PRODUCT}"
MOST_PRODUCTS: Final = 64
LONGEST_NAME: Final = 63
LONGEST_CURRENCY: Final = 16
HIGHEST: Final = 1_000_000.0
DEFAULT_CURRENCY: Final = "USD"


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of an hour of one GPU."""

    currency: str = DEFAULT_CURRENCY
    per_gpu_hour: tuple[tuple[str, float], ...] = ()
    """By product: a label's value, a name or an alias of the catalogue, or a family."""

    def of(self, product: str) -> float | None:
        """The price of a product: by its own name, by another name of it, or by its family; None
        where none is given."""
        given = {catalogue.normalised(name): price for name, price in self.per_gpu_hour}
        own = given.get(catalogue.normalised(product))
        known = catalogue.find(product)
        if own is not None or known is None:
            return own
        same: float | None = None
        family: float | None = None
        for name, price in self.per_gpu_hour:
            found = catalogue.find(name)
            if found is None:
                continue
            if found.name == known.name:
                same = price
            elif set(known.label_values) <= set(found.label_values):
                family = price
        return family if same is None else same

    def to_json_object(self) -> dict[str, Any]:
        """As it is pinned."""
        return {"currency": self.currency, BY_PRODUCT: dict(self.per_gpu_hour)}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> Prices:
        """The inverse of ``to_json_object``."""
        return cls(document["currency"], tuple(sorted(document[BY_PRODUCT].items())))


NO_PRICES: Final = Prices()


def read_prices(text: str) -> tuple[Prices, list[Problem]]:
    """Prices as the chart passes them (JSON; empty for none), or all that is wrong in them."""
    if not text.strip():
        return NO_PRICES, []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return NO_PRICES, [_problem(VALUE, f"is no JSON: {error}")]
    return checked_prices(document)


def checked_prices(document: Any) -> tuple[Prices, list[Problem]]:
    """The prices of a document with the chart's value, or all that is wrong in them."""
    if not isinstance(document, Mapping):
        return NO_PRICES, [_problem(VALUE, f"is no object; it is like {SHAPE}")]
    problems = list(_problems(document))
    if problems:
        return NO_PRICES, problems
    given = document.get(BY_PRODUCT) or {}
    prices = tuple(sorted((name, float(price)) for name, price in given.items()))
    return Prices(document.get("currency") or DEFAULT_CURRENCY, prices), []


SHAPE: Final = "{currency: USD, perGPUHour: {NVIDIA-L4: 0.7}}"


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    for key in document:
        if key not in ("currency", BY_PRODUCT):
            yield _problem(f"{VALUE}.{key}", f"is no field; there are currency and {BY_PRODUCT}")
    currency = document.get("currency") or DEFAULT_CURRENCY
    if not isinstance(currency, str) or len(currency) > LONGEST_CURRENCY:
        text = f"is no text of at most {LONGEST_CURRENCY} characters, such as {DEFAULT_CURRENCY}"
        yield _problem(f"{VALUE}.currency", text)
    given = document.get(BY_PRODUCT) or {}
    if not isinstance(given, Mapping):
        yield _problem(PRODUCTS_FIELD, "is no object of prices by product, such as {NVIDIA-L4: 1}")
        return
    if len(given) > MOST_PRODUCTS:
        text = f"has {len(given)} products; at most {MOST_PRODUCTS} are taken"
        yield _problem(PRODUCTS_FIELD, text)
    for name, price in given.items():
        field = f"{PRODUCTS_FIELD}[{name}]"
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            yield _problem(field, f"is no product's name of 1 to {LONGEST_NAME} characters")
        number = isinstance(price, (int, float)) and not isinstance(price, bool)
        if not number or not math.isfinite(price) or not 0 < price <= HIGHEST:
            text = f"is {price!r}, and the price of an hour is a number above 0, of at most"
            yield _problem(field, f"{text} {HIGHEST:,.0f}")


def _problem(field: str, message: str) -> Problem:
    return Problem(field=field[:200], reason="IllegalPin", message=message[:1024])
