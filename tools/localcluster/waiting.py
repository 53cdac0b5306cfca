"""Waiting for something to become true, with a deadline and a sentence for when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_SELDOM = 0.25


def wait_until(
    condition: Callable[[], Value | None],
    what: str,
    timeout: float = 30,
    interval: float = 0.05,
) -> Value:
    """The condition's first true value; asked every `interval` seconds for `timeout` seconds.

    The longer it takes, the less often, up to `_SELDOM` seconds: it ends at most a twentieth late.
    An exception of the condition is not caught. Raises TimeoutError: "timed out after … waiting for
    `what`; last seen: …".
    """
    started = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - started
        if waited >= timeout:
            raise TimeoutError(
                f"timed out after {timeout:g} s waiting for {what}; last seen: {value!r}"
            )
        time.sleep(max(interval, min(_SELDOM, waited / 20)))
