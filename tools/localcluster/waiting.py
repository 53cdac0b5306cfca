"""Waiting for something to become true, with a deadline and a sentence for when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_until(
    condition: Callable[[], Value | None],
    what: str,
    timeout: float = 30,
    interval: float = 0.05,
) -> Value:
    """The condition's first true value; asked every `interval` seconds for `timeout` seconds.

    An exception of the condition is not caught. Raises TimeoutError: "timed out after … waiting for
    `what`; last seen: …".
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"timed out after {timeout:g} s waiting for {what}; last seen: {value!r}"
            )
        time.sleep(interval)
