"""Models that are named by where they are: object stores, which vLLM reads by Run:ai's streamer.

vLLM fetches the small files of such a model (its config, its tokenizer) into a folder of the pod
and streams the tensors from the store to the GPUs (0.32.0 ``config/model.py``,
``maybe_pull_model_tokenizer_for_runai``, and ``model_loader/runai_streamer_loader.py``).
"""

from __future__ import annotations

from typing import Final

from .tables import holds, rows
from .versions import Version

LOAD_FORMAT: Final = "--load-format"
STREAMER: Final = "runai_streamer"
"""The one format that reads an object store (0.11.1 to 0.32.0 ``config/vllm.py``,
``try_verify_and_update_config``; the sharded one takes no checkpoint of the Hub's shape)."""

STREAMERS: Final = (STREAMER, "runai_streamer_sharded")
"""Formats that hold weights in a buffer of the host's memory, wherever they come from."""

MEMORY_LIMIT: Final = "RUNAI_STREAMER_MEMORY_LIMIT"
"""Bytes of that buffer in each process, -1 for all, 0 for the largest tensor (Run:ai model
streamer, docs/src/env-vars.md). Two members of ``LOADER_CONFIG`` replace it and part it (0.32.0
``model_loader/runai_streamer_loader.py``)."""

LOADER_CONFIG: Final = "--model-loader-extra-config"

ACCOUNT: Final = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT")
"""One of them says whose containers ``az://`` means (Run:ai model streamer, docs/src/usage.md)."""


def unread_because(scheme: str, version: Version) -> str | None:
    """Why this vLLM does not read addresses of a scheme, with those that do; None where it does."""
    known = [row for row in rows("model_addresses.csv") if row["scheme"] == scheme]
    if any(holds(row, version) for row in known):
        return None
    spans = [_span(row["since"], row["until"]) for row in known]
    return f"vLLM {version} does not read {scheme}:// addresses; {', '.join(spans)} do"


def memory_limit() -> int:
    """Bytes of the streamer's buffer in a process where nobody says another limit."""
    (row,) = [row for row in rows("streamer.csv") if row["name"] == "memoryLimit"]
    return int(row["value"])


def _span(since: str, until: str) -> str:
    if not until:
        return f"{since} and newer"
    return since if since == until else f"{since} to {until}"
