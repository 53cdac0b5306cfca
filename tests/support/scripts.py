"""Scripts of Jobs, run by the Python of a real engine as their containers would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from realengine.environments import Environment
from vllm_operator import benchmark, datafiles


def log_of(
    environment: Environment, name: str, given: Mapping[str, Any], *, script: str | None = None
) -> str:
    """What a script of the room ``benchmark`` prints; ``script``: another text in its place."""
    text = script or datafiles.text(benchmark.__name__, f"scripts/{name}")
    ended = subprocess.run(
        [str(environment.python), "-c", text, json.dumps(given)],
        env=environment.variables(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout
