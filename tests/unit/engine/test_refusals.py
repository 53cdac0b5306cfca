"""What the engine refuses of what its parser takes, on both sides of each span."""

from typing import Any

import pytest

from vllm_operator.engine.refusals import FACTS, VALUED, Case, refused
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version

V4 = "DeepseekV4ForCausalLM"
LATENT = Case("DeepseekV3ForCausalLM", latent=True)
COMPRESSED = Case(V4, compressed=True)
HOPPER, B200, A100, RTX = (9, 0), (10, 0), (8, 0), (12, 0)


def given(flag: str, value: str, **facts: Any) -> Case:
    return Case("K", arguments=frozenset({(flag, value)}), **facts)


SPANS = [
    (Case(V4, HOPPER, compressed=True, cache="auto"), None, "0.20.0", "0.29.1", "0.30.0"),
    (Case(V4, RTX, compressed=True, cache="auto"), None, "0.24.0", "0.29.1", "0.30.0"),
    (Case(V4, B200, compressed=True, cache="auto"), None, "0.20.0", "0.33.0", None),
    (Case("D", latent=True, cache="fp8_e5m2"), "0.11.2", "0.12.0", "0.33.0", None),
    (Case("D", A100, latent=True, cache="fp8"), "0.11.2", "0.12.0", "0.12.1", "0.20.0"),
    (Case("D", RTX, latent=True, cache="fp8"), "0.11.2", "0.12.0", "0.12.1", "0.20.0"),
    (
        Case("D", HOPPER, latent=True, sparse=True, cache="fp8_e4m3"),
        None,
        "0.20.0",
        "0.28.0",
        "0.30.0",
    ),
    (Case("D", latent=True, float32=True), "0.11.2", "0.12.0", "0.33.0", None),
    (
        Case("Q", states=frozenset({"gdn"}), chunked_prefill=False, prefix_caching=True),
        None,
        "0.20.0",
        "0.33.0",
        None,
    ),
    (
        Case("N", states=frozenset({"mamba2"}), chunked_prefill=False, prefix_caching=True),
        "0.27.1",
        "0.28.0",
        "0.33.0",
        None,
    ),
    (
        Case("Q", states=frozenset({"gdn"}), chunked_prefill=False),
        "0.27.1",
        "0.28.0",
        "0.33.0",
        None,
    ),
    (Case(V4, compressed=True, pipeline=2), None, "0.20.0", "0.20.1", "0.30.0"),
    (Case("G", multimodal=True, drafts="draft_model"), None, "0.20.0", "0.20.1", "0.28.0"),
    (Case("M", RTX, nvfp4_experts=True), "0.14.1", "0.15.0", "0.15.0", "0.15.1"),
    (Case("L", backend="FLASHMLA"), None, "0.20.0", "0.33.0", None),
    (Case("D", latent=True, backend="FLASHINFER"), None, "0.20.0", "0.33.0", None),
    (Case("D", latent=True, sparse=True, backend="TRITON_MLA"), None, "0.20.0", "0.33.0", None),
    (Case("D", A100, latent=True, backend="FLASHMLA"), None, "0.20.0", "0.33.0", None),
    (Case("D", HOPPER, latent=True, backend="CUTLASS_MLA"), None, "0.20.0", "0.33.0", None),
    (Case("L", A100, backend="FLASH_ATTN", cache="fp8"), None, "0.20.0", "0.33.0", None),
    (Case("L", RTX, backend="FLASH_ATTN", cache="fp8"), None, "0.20.0", "0.33.0", None),
    (Case("L", backend="FLEX_ATTENTION", cache="fp8"), None, "0.20.0", "0.33.0", None),
    (Case("M", adapters=True, moe="deep_gemm_mega_moe"), "0.32.0", "0.33.0", "0.33.0", None),
    (Case("L", rocm=True, quantization="bitsandbytes"), "0.11.2", "0.12.0", "0.16.0", "0.18.0"),
    (Case("L", rocm=True, quantization="bitsandbytes"), "0.26.0", "0.28.0", "0.33.0", None),
    (Case("L", rocm=True, quantization="inc"), "0.11.2", "0.12.0", "0.26.0", "0.28.0"),
    (Case("L", rocm=True, quantization="modelopt"), "0.11.2", "0.12.0", "0.20.0", "0.22.0"),
    (Case("L", rocm=True, quantization="modelopt_fp4"), "0.11.2", "0.12.0", "0.18.0", "0.20.0"),
    (Case("L", rocm=True, quantization="experts_int8"), "0.11.2", "0.12.0", "0.33.0", None),
    (Case("M", moe="flashinfer_moe_ep_cutedsl"), "0.32.0", "0.33.0", "0.33.0", None),
    (given("--per-request-spec-decode-metrics", "summary"), "0.29.0", "0.30.0", "0.33.0", None),
    (given("--kda-prefill-backend", "flashkda", rocm=True), "0.29.0", "0.30.0", "0.33.0", None),
    (
        given("--kda-prefill-backend", "fused", capability=HOPPER),
        "0.29.0",
        "0.30.0",
        "0.33.0",
        None,
    ),
    (
        given("--renderer-num-workers", "2", multimodal=True, pooling=True),
        None,
        "0.20.0",
        "0.33.0",
        None,
    ),
]


@pytest.mark.parametrize(("case", "before", "first", "last", "after"), SPANS)
def test_a_constraint_holds_from_its_first_release_to_its_last(
    case: Case, before: str | None, first: str, last: str, after: str | None
):
    assert refused(case, Version.parse(first)) is not None
    assert refused(case, Version.parse(last)) is not None
    for outside in (before, after):
        assert outside is None or refused(case, Version.parse(outside)) is None


@pytest.mark.parametrize(
    "case",
    [
        Case("LlamaForCausalLM", A100, cache="fp8_e5m2"),
        Case("LlamaForCausalLM", HOPPER, chunked_prefill=False, float32=True),
        Case("D", HOPPER, latent=True, cache="fp8"),
        Case("D", rocm=True, latent=True, cache="fp8_e5m2"),
        Case(V4, HOPPER, compressed=True),
        Case("Q", states=frozenset({"gdn"}), chunked_prefill=False, prefix_caching=False),
        Case("M", B200, nvfp4_experts=True),
        Case("L", HOPPER, backend="FLASH_ATTN", cache="fp8"),
        Case("L", A100, backend="FLASHINFER", cache="fp8"),
        Case("D", latent=True, backend="FLASHMLA"),
        Case("D", B200, latent=True, backend="CUTLASS_MLA"),
        Case("M", adapters=True, moe="triton"),
        Case("L", HOPPER, quantization="bitsandbytes"),
        Case("L", rocm=True, quantization="fp8"),
        Case(V4, compressed=True, moe="flashinfer_moe_ep_cutedsl"),
        given("--per-request-spec-decode-metrics", "summary", drafts="ngram"),
        given("--per-request-spec-decode-metrics", "none"),
        given("--kda-prefill-backend", "flashkda", capability=HOPPER),
        given("--kda-prefill-backend", "fused", rocm=True),
        given("--renderer-num-workers", "2", multimodal=True),
        given("--renderer-num-workers", "1", multimodal=True, pooling=True),
    ],
)
@pytest.mark.parametrize("version", ["0.12.0", "0.15.0", "0.20.0", "0.28.0", "0.33.0"])
def test_what_the_engine_takes_is_not_refused(case: Case, version: str):
    assert refused(case, Version.parse(version)) is None


def test_every_row_speaks_of_known_facts_and_ends_with_what_works():
    for row in rows("refusals.csv"):
        facts = f"{row['when']} {row['unless']}".split()
        valued = ("--", *(f"{name}=" for name in VALUED))
        assert {fact for fact in facts if not fact.startswith(valued)} <= set(FACTS)
        assert row["when"]
        assert row["remedy"].startswith(("set ", "take ", "remove "))


def test_every_row_holds_in_some_case_above():
    met = set()
    for case, _, first, last, _ in SPANS:
        for version in (first, last):
            found = refused(case, Version.parse(version))
            assert found is not None
            met.add((found.field, found.why.rpartition("; ")[2]))
    assert {(row["field"], row["remedy"].rpartition("; ")[2]) for row in rows("refusals.csv")} <= {
        (field, remedy) for field, remedy in met
    }
