"""Liveness of vLLM, asked inside its container: does it answer, and does what it runs move?

GET /health says only that the engine has not ended. A busy engine moves its counters with every
step, a hung one has requests running and moves nothing. Both are given a budget in seconds.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import time
from typing import Any

Object = dict[str, Any]

SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
ENGINE = re.compile(r'(?:^|,)engine="([^"]*)"')


def engines_in(text: str, running: str, moving: list[str]) -> dict[str, list[str]]:
    """By engine, the requests that run and a mark of all that moves; text is that of /metrics."""
    values: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        found = SAMPLE.match(line)
        if found and (found[1] == running or found[1] in moving):
            engine = ENGINE.search(found[2] or "")
            values.setdefault(engine[1] if engine else "", {})[found[1]] = found[3]
    return {
        engine: [value[running], " ".join(value.get(name, "") for name in (running, *moving))]
        for engine, value in values.items()
        if running in value
    }


def decide(
    before: Object | None, engines: Object | None, now: float, budget: float
) -> tuple[Object, str]:
    """What to remember, and why to restart (empty: no reason).

    before is what was remembered, None at the first look; engines is None where nobody answered.
    """
    known = before or {"answered": now, "engines": {}}
    if engines is None:
        silent = now - known["answered"]
        why = f"no answer on the HTTP port for {silent:.0f} s" if silent >= budget else ""
        return {**known, "seen": now}, why
    kept, why = {}, ""
    for engine, (running, mark) in engines.items():
        old, since = known["engines"].get(engine, (mark, now))
        if mark != old or float(running) == 0:
            since = now
        kept[engine] = [mark, since]
        if now - since >= budget:
            name = f"engine {engine}" if engine else "the engine"
            why = f"{name} has {float(running):.0f} requests running, moved by no step for "
            why += f"{now - since:.0f} s"
    return {"answered": now, "engines": kept, "seen": now}, why


def ask(port: int, running: str, moving: list[str]) -> Object | None:
    """The engines, None where vLLM does not answer or says that its engine is dead."""
    try:
        texts = []
        for path in ("/health", "/metrics"):
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            server.request("GET", path)
            answer = server.getresponse()
            texts.append(answer.read().decode(errors="replace"))
            server.close()
            if path == "/health" and answer.status != 200:
                return None
        return engines_in(texts[-1], running, moving)
    except (OSError, http.client.HTTPException):
        return None


def remembered(path: str, start: str, now: float, gap: float) -> Object | None:
    """The state file's content, None where it is another start's or older than gap seconds."""
    try:
        with open(path) as file:
            state: Object = json.load(file)
        fresh = state["start"] == start and 0 <= now - state["seen"] <= gap
        return state if fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main(given: Object) -> int:
    """1 where the container is to be restarted."""

    def give_up(*_: object) -> None:
        raise OSError("vLLM answers too slowly")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(given["patience"])
    engines = ask(given["port"], given["running"], given["moving"])
    signal.alarm(0)
    with open("/proc/1/stat") as file:
        start = file.read().rpartition(")")[2].split()[19]
    now = time.monotonic()
    before = remembered(given["state"], start, now, given["gap"])
    state, why = decide(before, engines, now, given["budget"])
    with open(given["state"] + ".new", "w") as file:
        json.dump({**state, "start": start}, file)
    os.replace(given["state"] + ".new", given["state"])
    sys.stdout.write(why)
    return 1 if why else 0


if __name__ == "__main__":
    try:
        STATUS = main(json.loads(sys.argv[1]))
    except Exception as error:  # a broken probe is no reason to end an engine
        sys.stdout.write(f"liveness is not known: {error!r}")
        STATUS = 0
    sys.exit(STATUS)
