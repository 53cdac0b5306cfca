"""The room that decides needs nobody to talk to."""

from __future__ import annotations

import subprocess
import sys

WHOLE_ROOM = """
import importlib, pkgutil, sys
import vllm_operator.lifecycle as room
for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print(len(list(pkgutil.iter_modules(room.__path__))))
print(sorted({"aiohttp", "kubernetes", "kopf", "prometheus_client", "asyncio"} & set(sys.modules)))
"""


def test_all_of_lifecycle_is_imported_without_a_client_or_an_event_loop() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WHOLE_ROOM], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert int(told[0]) > 10
    assert told[1] == "[]"
