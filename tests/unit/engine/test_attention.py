"""The attention backend that an engine says in its log that it took."""

from __future__ import annotations

import pytest

from vllm_operator.engine.attention import Attention, attention_in, standing

NEW = (
    "(EngineCore pid=163) INFO 03-20 10:08:31 [vllm.py:958] Cudagraph is disabled\n"
    "(EngineCore pid=163) INFO 03-20 10:08:32 [cuda.py:317] Using FLASH_ATTN attention backend out "
    "of potential backends: ['FLASH_ATTN', 'FLASHINFER', 'TRITON_ATTN', 'FLEX_ATTENTION'].\n"
)


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        (NEW, "FLASH_ATTN"),
        ("Using TRITON_MLA attention backend out of potential backends: [].", "TRITON_MLA"),
        ("Using AttentionBackendEnum.FLASHINFER backend.", "FLASHINFER"),
        ("INFO [cuda.py:446] Using FLASHINFER backend.", "FLASHINFER"),
        ("Using ROCM_ATTN backend out of potential backends: ['ROCM_ATTN'].", "ROCM_ATTN"),
        ("INFO [cuda.py:221] Using Flash Attention backend on V1 engine.", "Flash Attention"),
        ("INFO [cuda.py:289] Using XFormers backend.", "XFormers"),
    ],
)
def test_every_spelling_of_a_backend_is_read(line: str, backend: str) -> None:
    assert attention_in(line) == Attention(backend)


@pytest.mark.parametrize(
    "line",
    [
        "Using backend FLASH_ATTN for vit attention",
        "Using AttentionBackendEnum.TORCH_SDPA for MMEncoderAttention.",
        "Using 'MARLIN' WNA16 MoE backend.",
        "Using Flash Attention backend for ViT model.",
        "Using FLASH_ATTN MLA prefill backend.",
        "",
    ],
)
def test_backends_of_something_else_are_none(line: str) -> None:
    assert attention_in(line) is None


def test_what_a_block_size_precludes_is_read_as_well() -> None:
    log = (
        "WARNING [cuda.py:490] --block-size 128 precluded higher-priority backend(s) FLASH_ATTN, "
        "FLASHINFER. Using TRITON_ATTN instead, which may result in reduced performance.\n"
        "INFO [cuda.py:507] Using TRITON_ATTN attention backend out of potential backends: "
        "['TRITON_ATTN', 'FLEX_ATTENTION'].\n"
    )
    assert attention_in(log) == Attention("TRITON_ATTN", "FLASH_ATTN, FLASHINFER")


@pytest.mark.parametrize(
    ("backend", "maker", "expected"),
    [
        ("FLASH_ATTN", "nvidia", "preferred"),
        ("TRITON_ATTN", "nvidia", "fallback"),
        ("TRITON_ATTN", "amd", None),
        ("ROCM_ATTN", "amd", "preferred"),
        ("NEVER_SEEN", "nvidia", None),
    ],
)
def test_a_backend_is_ranked_by_the_gpus_maker(
    backend: str, maker: str, expected: str | None
) -> None:
    assert standing(backend, maker) == expected
