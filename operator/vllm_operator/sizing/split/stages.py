"""Which layers lie on which stage of a pipeline, and what a stage may not lack."""

from __future__ import annotations

from vllm_operator.models.architecture import Architecture


def stage_ranges(layers: int, pipeline: int) -> tuple[range, ...]:
    """The layers of each pipeline stage.

    Source: ``get_pp_indices`` of vllm 0.33.0 ``distributed/utils.py``: equal shares, the remainder
    one by one to the stages before the last, from the second last on.
    """
    share, rest = divmod(layers, pipeline)
    sizes = [share] * pipeline
    for number in range(2, rest + 2):
        sizes[-number] += 1
    ranges, start = [], 0
    for size in sizes:
        ranges.append(range(start, start + size))
        start += size
    return tuple(ranges)


def illegal_stages_because(architecture: Architecture, pipeline: int) -> str | None:
    """Why vLLM refuses to make stages of a model's layers, or None where it accepts them.

    A layer that reads another layer's KV cache must lie on its stage (vllm 0.33.0
    ``layers/attention/attention.py``, ``validate_kv_sharing_target``), and a stage without any KV
    cache has no blocks to count (0.20.0 ``v1/core/kv_cache_utils.py``,
    ``get_kv_cache_config_from_groups``).
    """
    if pipeline == 1:
        return None
    kinds = [architecture.kinds[kind] for kind in architecture.pattern]
    for stage in stage_ranges(len(kinds), pipeline):
        for index in stage:
            target = kinds[index].cache_of
            if target is not None and target not in stage:
                return (
                    f"layer {index} reads the KV cache of layer {target}, and {pipeline} pipeline "
                    "stages part them"
                )
        if all(not kinds[index].kept for index in stage):
            return (
                f"of {pipeline} pipeline stages, the one of layers {stage.start} to "
                f"{stage.stop - 1} keeps no KV cache"
            )
    return None
