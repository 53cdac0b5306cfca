"""Spans of versions in the data files begin and end where their own sources say so."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import vllm_operator

ROOT = Path(vllm_operator.__file__).parent
VERSION = r"(\d+\.\d+(?:\.\d+)?)"
BEFORE_ALL = ("0.6.0", "0.8.0")
"""Beginnings of what the oldest version that is planned has."""

OTHERWISE = {
    "engine/architectures.csv": (
        "DotsOCRForCausalLM 0.9.1",
        "HunYuanDenseV1ForCausalLM 0.10.2",
        "HunYuanMoEV1ForCausalLM 0.10.2",
    ),
    "engine/block_sizes.csv": ("10 0.12.0 0.15",),
    "engine/capabilities.csv": ("7.0 0.9.0 0.19",),
    "engine/expert_padding.csv": (
        "GptOssForCausalLM 0.10.0 0.26",
        "GptOssForCausalLM 0.11.0",
    ),
    "engine/extra_arguments.csv": (
        "--collect-detailed-traces 0.10.2",
        "--guided-decoding-backend 0.8.5",
        "--otlp-traces-endpoint 0.10.2",
        "--scheduling-policy 0.9.2",
    ),
    "engine/failures.csv": (
        "DtypeUnsupported 0.9.0",
        "GPUMemoryTaken 0.9.0",
        "TooFewGPUs 0.11.1",
    ),
    "engine/first_engine.csv": ("0.8.0 0.8.0",),
    "engine/flags.csv": (
        "--disable-logprobs-during-spec-decoding 0.6.0 0.8.2",
        "--ngram-prompt-lookup-max 0.6.0 0.8.2",
        "--ngram-prompt-lookup-min 0.6.0 0.8.2",
        "--num-speculative-tokens 0.6.0 0.8.2",
        "--spec-decoding-acceptance-method 0.6.0 0.8.2",
        "--speculative-disable-by-batch-size 0.6.0 0.8.2",
        "--speculative-disable-mqa-scorer 0.6.4 0.8.2",
        "--speculative-draft-tensor-parallel-size 0.6.0 0.8.2",
        "--speculative-max-model-len 0.6.0 0.8.2",
        "--speculative-model 0.6.0 0.8.2",
        "--speculative-model-quantization 0.6.0 0.8.2",
        "--typical-acceptance-sampler-posterior-alpha 0.6.0 0.8.2",
        "--typical-acceptance-sampler-posterior-threshold 0.6.0 0.8.2",
    ),
    "engine/half_precision.csv": (
        "Gemma2ForCausalLM 0.9.1",
        "Gemma3ForConditionalGeneration 0.9.1",
        "Glm4ForCausalLM 0.9.1",
    ),
    "engine/metrics.csv": (
        "decodeTime 0.6.4",
        "interTokenLatency 0.6.0 0.10.1",
        "kvCacheUsage 0.6.0 0.9.1",
        "prefillTime 0.6.4",
        "prefixCacheHits 0.7.3 0.9.1",
        "prefixCacheQueries 0.7.3 0.9.1",
        "queueTime 0.6.4",
        "stepTokens 0.6.4",
    ),
    "engine/online_quantization.csv": (
        "bitsandbytes 0.10.0 0.27",
        "bitsandbytes 0.8.0 0.9.1",
        "bitsandbytes 0.9.2 0.9",
        "fp8 0.14.0 0.30",
        "fp8 0.8.0 0.13",
        "fp8_per_block 0.20.0",
        "fp8_per_channel 0.24.0",
        "fp8_per_tensor 0.20.0",
        "int8_per_channel_weight_only 0.20.0",
        "mxfp4 0.28.0",
        "mxfp8 0.20.0",
        "nvfp4_per_token 0.26.0",
    ),
    "engine/quantization.csv": (
        "inc 0.9.0",
        "modelopt_fp4 0.9.0 0.13",
        "mxfp4 0.10.1",
    ),
    "engine/refusals.csv": (
        "spec.engine.chunkedPrefill 0.20.0 0.27",
        "spec.engine.kvCacheDtype 0.12.0 0.12",
        "spec.engine.kvCacheDtype 0.20.0 0.29",
        "spec.engine.speculative.method 0.20.0 0.20",
        "spec.gpu.product 0.15.0 0.15.0",
        "spec.parallelism.pipeline 0.20.0 0.20",
    ),
    "engine/since.csv": (
        "adds-lora-vocabulary 0.8.0 0.11.2",
        "caches-recurrent-prefixes 0.28.0",
        "captures-coarsely 0.11.1",
        "charges-no-context 0.11.0",
        "counts-all-that-is-taken 0.27.0",
        "counts-batches-in-flight 0.26.0",
        "divides-all-experts 0.9.2",
        "groups-whole-models 0.11.0",
        "has-hybrid-cache 0.10.0",
        "makes-latent-context 0.11.0",
        "multiplies-yarn 0.8.0 0.29",
        "nests-bitsandbytes 0.8.0 0.9.1",
        "pads-pictures 0.11.0 0.12",
        "prints-concurrency-tokens 0.21.0",
        "reads-json-compilation 0.9.1",
        "reserves-decode-logits-on-rocm 0.28.0",
        "samples-with-flashinfer 0.9.0 0.11.0",
        "schedules-ahead-when-asked 0.12.0 0.13",
        "serves-small-cache-in-v1 0.11.0",
        "takes-async-scheduling-with-stages 0.15.0",
        "takes-blocks-of-any-16 0.18.0",
        "takes-lora-beside-expert-parallelism 0.21.0",
        "wants-a-block-a-state 0.20.0",
        "wants-a-state-block-a-step 0.20.0 0.27",
    ),
    "engine/speculation.csv": (
        "eagle 0.9.1",
        "eagle3 0.9.1",
        "ernie_mtp 0.10.2",
        "hy_v3_mtp 0.20.0",
        "mimo_mtp 0.11.0",
        "mimo_v2_mtp 0.24.0",
        "nemotron_h_mtp 0.19.0",
        "ngram 0.9.1",
        "ngram_gpu 0.19.0",
        "qwen3_5_mtp 0.19.0",
        "qwen3_next_mtp 0.10.2",
        "step3p5_mtp 0.16.0",
        "suffix 0.11.1",
    ),
    "engine/state_blocks.csv": (
        "gdn 0.15.0 0.32",
        "kda 0.15.0",
        "linear 0.15.0",
        "mamba1 0.11.1 0.27",
        "mamba2 0.11.1 0.27",
        "mamba2 0.15.0 0.31",
        "short_conv 0.15.0",
    ),
    "engine/values.csv": (
        "1 0.8.0 0.17",
        "256 0.11.1",
        "8 0.8.0 0.17",
    ),
    "sizing/memory/coefficients.csv": (
        "context 0.11.0",
        "context 0.8.0 0.10",
        "graphs 0.29.0",
        "graphs 0.8.0 0.28",
        "non_torch 0.11.0",
        "non_torch 0.8.0 0.8",
        "non_torch 0.9.0 0.10",
        "non_torch_first_engine 0.8.0 0.10",
        "non_torch_linked 0.11.0",
        "non_torch_linked 0.8.0 0.8",
        "non_torch_linked 0.9.0 0.10",
        "non_torch_rocm 0.8.0 0.10",
        "sampler 0.8.0 0.16",
        "sampler_drafting 0.12.0 0.13",
        "sampler_drafting 0.14.0 0.16",
        "sampler_drafting 0.17.0",
        "sampler_flashinfer 0.9.0 0.11.0",
        "sampler_rocm 0.17.0",
        "sampler_rocm 0.8.0 0.16",
        "sampler_v2 0.22.0 0.32",
        "sampler_v2 0.33.0",
        "shared_experts_graphs 0.20.0 0.28",
        "shared_experts_graphs 0.8.0 0.19",
        "tower 0.13.0",
        "tower 0.8.0 0.12",
        "weights_quantized 0.8.0 0.8",
        "weights_quantized 0.9.0",
    ),
}
"""Keys and spans that the sources do not name: releases between were not read, or figures were
fitted to starts of some versions."""


def release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in f"{text}.0".split(".")[:3])


def first_and_last(source: str) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Versions that a source names as the first, or as the last, that it speaks of."""
    named = [release(one) for one in re.findall(rf"(?<!not in )(?<!up to )\b{VERSION}\b", source)]
    firsts = {release(one) for one in re.findall(f"{VERSION} to ", source)}
    firsts |= {release(one) for one in re.findall(f"from {VERSION}", source)}
    lasts = {release(one) for one in re.findall(f"(?:to|and) {VERSION}", source)}
    # LoRA before 0.8.3: "up to 0.8.2" ends what came before.
    ended = [release(one) for one in re.findall(f"; up to {VERSION}", source)]
    firsts |= {(*one[:2], one[2] + 1) for one in ended}
    return firsts | set(sorted(named)[:1]), lasts | set(sorted(named)[-1:])


def sourced(path: Path) -> Iterator[tuple[Mapping[str, str], str]]:
    """Rows with their sources; ``the same`` and ``as above`` are those of the row before."""
    source = ""
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            own = row["source"]
            again = re.match("the same|as ", own) and not re.search(VERSION, own)
            source = f"{own} {source}" if again else own
            yield row, source


def disagreements(path: Path) -> set[str]:
    found = set()
    for row, source in sourced(path):
        firsts, lasts = first_and_last(source)
        since, until = row["since"], row.get("until") or ""
        end = tuple(int(part) for part in until.split(".")) if until else ()
        begins = since in ("", *BEFORE_ALL) or release(since) in firsts
        ends = not until or any(last[: len(end)] == end for last in lasts)
        if not begins or not ends:
            key = next(text for name, text in row.items() if name not in ("since", "until"))
            if path.name == "values.csv":
                key = row["value"]
            found.add(f"{key} {since} {until}".strip())
    return found


TABLES = sorted(
    path
    for path in ROOT.rglob("*.csv")
    if {"since", "source"} <= set(path.read_text(encoding="utf-8").partition("\n")[0].split(","))
)


def test_there_are_tables_to_check() -> None:
    assert len(TABLES) > 30


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_span_begins_and_ends_with_versions_that_its_source_names(path: Path) -> None:
    assert sorted(disagreements(path)) == sorted(OTHERWISE.get(str(path.relative_to(ROOT)), ()))
