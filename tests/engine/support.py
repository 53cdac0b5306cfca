"""What the tests of the real engine share."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realengine.environments import SERVING_VERSION
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import StateCache
from vllm_operator.sizing.memory.kvcache import CacheLayout, CacheSettings, cache_layout
from vllm_operator.sizing.split.parallelism import SINGLE

VERSION = Version.parse(SERVING_VERSION)
MAX_NUM_SEQS = 16
FLOAT32 = 4


@dataclass(frozen=True)
class Start:
    """One start of the engine, by what decides its KV cache."""

    model: str
    max_model_len: int
    kv_bytes: int = 0
    block_size: int = 128
    max_num_batched_tokens: int = 1024
    prefix_caching: bool = True

    def __str__(self) -> str:
        caching = "" if self.prefix_caching else "-uncached"
        return (
            f"{self.model}-length{self.max_model_len}-block{self.block_size}"
            f"-step{self.max_num_batched_tokens}-bytes{self.kv_bytes}{caching}"
        )

    def arguments(self, models: Path) -> dict[str, Any]:
        """As the engine is given them."""
        return {
            "model": str(models / self.model),
            "max_model_len": self.max_model_len,
            "kv_cache_memory_bytes": self.kv_bytes,
            "block_size": self.block_size,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_num_seqs": MAX_NUM_SEQS,
            "enable_prefix_caching": self.prefix_caching,
            # The CPU build keeps states in this type on some processors whatever it is told.
            "mamba_ssm_cache_dtype": "float32",
        }

    def layout(self, models: Path, version: Version = VERSION) -> CacheLayout:
        """What the operator computes of it."""
        config = json.loads((models / self.model / "config.json").read_text())
        settings = CacheSettings(
            version=version,
            parallelism=SINGLE,
            element_bits=16,
            block_size=self.block_size,
            max_num_batched_tokens=self.max_num_batched_tokens,
            prefix_caching=self.prefix_caching,
            async_scheduling=False,  # never on CPUs: vllm platforms/cpu.py 0.32.0
        )
        return cache_layout(with_float32_states(architecture_from_config(config)), settings)


def in_float32(cache: Any) -> Any:
    """A state in that type; anything else as it is."""
    return replace(cache, state_bytes=FLOAT32) if isinstance(cache, StateCache) else cache


def with_float32_states(architecture: Architecture) -> Architecture:
    """A model whose recurrent states are kept as ``--mamba-ssm-cache-dtype float32`` says."""
    return replace(
        architecture,
        kinds=tuple(
            replace(
                layer,
                cache=in_float32(layer.cache),
                beside=in_float32(layer.beside),
            )
            for layer in architecture.kinds
        ),
    )
