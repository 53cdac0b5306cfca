"""Waits until vLLM has no request left, or for so many seconds, before it is told to stop.

For versions that abort at SIGTERM whatever they run.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from typing import Any

SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)")


def is_busy(text: str, names: list[str]) -> bool:
    """Whether a metric of those names is above zero; text is that of /metrics."""
    samples = (SAMPLE.match(line) for line in text.splitlines())
    return any(one and one[1] in names and float(one[2]) > 0 for one in samples)


def main(given: dict[str, Any]) -> None:
    """Returns when nothing is left to wait for; the first pause lets load balancers learn of it."""
    time.sleep(given["pause"])
    end = time.monotonic() + given["seconds"]
    while time.monotonic() < end:
        try:
            server = http.client.HTTPConnection("127.0.0.1", given["port"], timeout=5)
            server.request("GET", "/metrics")
            text = server.getresponse().read().decode(errors="replace")
            server.close()
        except (OSError, http.client.HTTPException):
            return
        if not is_busy(text, given["names"]):
            return
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
