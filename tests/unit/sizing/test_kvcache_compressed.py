"""DeepSeek-V4's blocks, as vLLM lays them out."""

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.asked.speculation import with_draft
from vllm_operator.sizing.memory import kvcache, weights
from vllm_operator.sizing.memory.kvcache import Group
from vllm_operator.sizing.split.parallelism import Parallelism

PACKED, OLDER = Version((0, 33, 0)), Version((0, 20, 0))
MODEL = architecture_from_config(catalogue.find("deepseek-ai/DeepSeek-V4-Flash").config)

# Pages by vllm 0.33.0 models/deepseek_v4, rounded up to 576 bytes: a state takes 584 bytes.
C4, C128, INDEX, WINDOW = 37_440, 1_728, 8_640, 37_440
STATES, INDEX_STATES = 32_832, 8_640


def layout(version: Version, tensor: int = 1, tokens: int = 8192) -> kvcache.CacheLayout:
    settings = kvcache.CacheSettings(version, Parallelism(tensor), 16, 256, tokens)
    return kvcache.cache_layout(MODEL, settings)


def test_a_block_holds_the_widest_group_side_by_side():
    full = 21 * (C4 + INDEX) + 20 * C128
    assert full > 22 * WINDOW
    assert full > 21 * (STATES + INDEX_STATES)
    assert layout(PACKED).bytes_per_block == full


def test_older_versions_repeat_every_page_size_as_often_as_the_longest_group():
    assert layout(OLDER).bytes_per_block == 22 * (C4 + INDEX + C128)


def test_windows_are_divided_into_groups_about_as_long_as_the_indexed_layers():
    assert sorted(layout(PACKED).groups, key=str) == sorted(
        [
            Group("full", 62, 256),
            Group("window", 22, 64, 128),
            Group("window", 22, 64, 128),
            Group("window", 42, 4, 8),
            Group("window", 20, 8, 128),
        ],
        key=str,
    )


def test_every_rank_keeps_the_whole_cache():
    assert layout(PACKED, tensor=8).bytes_per_block == layout(PACKED).bytes_per_block


def test_the_states_of_tokens_in_flight_hold_more_blocks_than_a_short_request():
    small, large = (layout(PACKED, tokens=tokens) for tokens in (1024, 8192))
    assert large.blocks_for(8192) > 2 * small.blocks_for(8192)


def test_a_draft_layer_has_only_a_window():
    drafting = with_draft(MODEL, "mtp", PACKED)
    settings = kvcache.CacheSettings(PACKED, Parallelism(1), 16, 256, 8192)
    groups = kvcache.cache_layout(drafting, settings).groups
    assert sum(group.layers for group in groups if group.block_size == 64) == 44


def test_the_chosen_tokens_have_a_buffer():
    assert weights.input_buffer_bytes(MODEL, 8192, 2) == 8192 * 512 * 4
