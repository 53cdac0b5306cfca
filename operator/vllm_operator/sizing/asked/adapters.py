"""LoRA adapters: what is asked for, whether this vLLM can, and the bytes of their slots.

vLLM takes the memory of ``max_loras`` adapters of the largest rank when it loads the model, for
every linear layer of the decoder whatever the adapters change (0.33.0 ``lora/model_manager.py``,
``_create_lora_modules``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.api.features import LoRA
from vllm_operator.api.plan import Flag
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.engine.tables import does, rows, rows_for
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.matrices import Split
from vllm_operator.models.shapes import Layer, StateCache
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

FIELD: Final = "spec.engine.lora"
FLAG: Final = "--enable-lora"
RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that every version takes (vllm ``config/lora.py``)."""
SLICES: Final = {"in_proj": 3, "conv1d": 1}
GROUP_SLICES: Final = 2
"""Parts of Mamba2's merged projections, each of which has an A of its own: of heads, and of groups
(0.32.0 ``layers/mamba/mamba_mixer2.py``). What vLLM fuses and checkpoints store apart is counted
apart, which is never less."""
EXTRA_VOCABULARY: Final = 256
"""Tokens that each adapter may add (``lora_extra_vocab_size``)."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """Slots for adapters."""

    slots: int
    rank: int
    modules: tuple[tuple[str, str], ...] = ()
    """Name and path of each that is loaded at the start."""

    def flags(self, given: LoRA, taken: int) -> list[Flag]:
        """The arguments that ask for them; ``taken``: bytes of their slots on a GPU."""
        room = f"adapters take {taken / GIBIBYTE:.2f} GiB of weights a GPU"
        pinned, default = "pinned in spec.engine.lora.{}; {}", "default of spec.engine.lora.{}; {}"
        slots = (pinned if given.max_loras else default).format("maxLoras", room)
        rank = (pinned if given.max_rank else default).format("maxRank", room)
        return [
            Flag(name=FLAG, reason="spec.engine.lora"),
            Flag(name="--max-loras", value=str(self.slots), reason=slots),
            Flag(name="--max-lora-rank", value=str(self.rank), reason=rank),
            *(
                Flag(
                    name="--lora-modules",
                    value=f"{name}={path}",
                    reason=f"spec.engine.lora.adapters[{name}]"[:512],
                )
                for name, path in self.modules
            ),
        ]


def read_adapters(
    given: LoRA,
    architecture: Architecture,
    version: Version,
    served_names: tuple[str, ...],
    *,
    offline: bool,
) -> tuple[Adapters | None, list[PlanningError]]:
    """The adapters that are asked for, or why this vLLM cannot have them."""
    problems = list(_problems(given, architecture, version, served_names, offline))
    modules = tuple((one.name, one.path) for one in given.adapters or [])
    return (None if problems else Adapters(given.max_loras or 1, given.max_rank or 16, modules)), (
        problems
    )


def _problems(
    given: LoRA,
    architecture: Architecture,
    version: Version,
    served_names: tuple[str, ...],
    offline: bool,
) -> Iterator[PlanningError]:
    if not any(row["architecture"] == architecture.name for row in rows_for("lora.csv", version)):
        spans = [row for row in rows("lora.csv") if row["architecture"] == architecture.name]
        hint = "remove it"
        if spans and version.release < Version.parse(spans[0]["since"]).release:
            hint = f"it came with {spans[0]['since']}"
        yield IllegalPin(FIELD, f"vLLM {version} has no LoRA for {architecture.name}; {hint}")
    ranks = (1, *RANKS) if does("takes-lora-rank-1", version) else RANKS
    rank = given.max_rank or 16
    if rank not in ranks:
        near = next((one for one in ranks if one > rank), ranks[-1])
        yield IllegalPin(
            f"{FIELD}.maxRank",
            f"{rank} is none of {', '.join(map(str, ranks))}, which vLLM {version} accepts; "
            f"set it to {near}",
        )
    seen: set[str] = set()
    for one in given.adapters or []:
        where = f"{FIELD}.adapters[{one.name}]"
        if one.name in served_names:
            yield IllegalPin(f"{where}.name", "is the name of the model itself; choose another")
        if one.name in seen:
            yield IllegalPin(where, "stands there twice; keep one")
        seen.add(one.name)
        if offline and not one.path.startswith("/"):
            yield IllegalPin(
                f"{where}.path",
                f"{one.path} is a repository, and a server of a checkpoint on a volume does not "
                "ask the Hub; give the adapter's folder in the container",
            )


@lru_cache(maxsize=1024)
def adapter_bytes(
    adapters: Adapters,
    architecture: Architecture,
    parallelism: Parallelism,
    element_bytes: int,
    version: Version,
) -> int:
    """Bytes of the slots on the fullest rank.

    For each matrix, ``slots`` x ``rank`` x (inputs + outputs) of its part on the rank: column
    parallel layers hold all of A and their part of B, row parallel ones their part of A and all of
    B (0.33.0 ``lora/layers/base_linear.py``, ``create_lora_weights``). Embedding and output head
    are whole on each rank (``vocab_parallel_embedding.py``, ``logits_processor.py``); models
    without ``embedding_modules`` have none, which is not told apart.
    """
    rows_of = [
        _layer_rows(kind, parallelism, experts=does("has-lora-for-experts", version))
        for kind in architecture.kinds
    ]
    widest = 0
    for stage in stage_ranges(architecture.layers, parallelism.pipeline):
        total = sum(rows_of[architecture.pattern[index]] for index in stage)
        outer = architecture.vocabulary_size + architecture.hidden_size
        total += outer * ((stage.start == 0) + (stage.stop == architecture.layers))
        widest = max(widest, total)
    size = adapters.slots * adapters.rank * widest
    if does("adds-lora-vocabulary", version):
        size += adapters.slots * 2 * EXTRA_VOCABULARY * architecture.hidden_size
    return size * element_bytes


def _layer_rows(layer: Layer, parallelism: Parallelism, *, experts: bool) -> int:
    """Inputs and outputs of a layer's matrices on a rank."""
    total = 0
    mamba = any(isinstance(one, StateCache) and one.kind == "mamba2" for one in layer.kept)
    for matrix in layer.matrices:
        if matrix.kind == "embedding" or (matrix.experts and not experts):
            continue
        shard = matrix.on_rank(
            parallelism.tensor, parallelism.expert_ranks, whole_experts=parallelism.expert
        )
        slices = SLICES.get(matrix.name.rpartition(".")[2], 1) if mamba else 1
        slices = GROUP_SLICES if matrix.split is Split.GROUPS else slices
        total += shard.copies * (slices * shard.inputs + shard.outputs)
    return total


def graphs_factor(adapters: Adapters | None, version: Version) -> int:
    """How often each CUDA graph is captured."""
    return 2 if adapters is not None and does("captures-graphs-twice-for-lora", version) else 1


def may_divide_experts(adapters: Adapters | None, version: Version) -> bool:
    """Whether expert parallelism works beside them."""
    return adapters is None or does("takes-lora-beside-expert-parallelism", version)
