"""Kubernetes' quantities as container engines and systemd write sizes."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from vllm_operator.api.quantity import GIBIBYTE, MEBIBYTE, parse_quantity

_UNITS: Final = ((GIBIBYTE, "g"), (MEBIBYTE, "m"), (1024, "k"))


def binary(amount: str | int) -> str:
    """Bytes in the largest unit that is exact: ``2g``. Units are powers of 1024.

    A fraction of a byte is rounded down.
    """
    size = int(parse_quantity(amount))
    for factor, unit in _UNITS:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}b"


def cores(amount: str | int) -> str:
    """CPUs as a decimal number: ``1.5``."""
    return _plain(parse_quantity(amount))


def percent(amount: str | int) -> str:
    """CPUs as a percentage of one: ``150%``."""
    return f"{_plain(parse_quantity(amount) * 100)}%"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
