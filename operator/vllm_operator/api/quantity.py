"""Kubernetes quantities (``500m``, ``16Gi``, ``1e3``), read exactly."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

MEBIBYTE: Final = 1024**2
GIBIBYTE: Final = 1024**3

_FACTORS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for; raises ValueError where it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:[eE]([0-9]{1,2})|([a-zA-Z]{0,2}))", str(text))
    if found is None or (found[3] or "") not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 16Gi")
    number, exponent, suffix = found.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent or 0)) * _FACTORS[suffix or ""]
