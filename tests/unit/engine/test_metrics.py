"""What is read of a server has the name that its version gives it."""

import pytest

from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import NEWEST_KNOWN, OLDEST, Version


@pytest.mark.parametrize(
    ("meaning", "version", "name"),
    [
        ("kvCacheUsage", "0.9.1", "vllm:gpu_cache_usage_perc"),
        ("kvCacheUsage", "0.9.2", "vllm:kv_cache_usage_perc"),
        ("interTokenLatency", "0.10.1", "vllm:time_per_output_token_seconds"),
        ("interTokenLatency", "0.10.2", "vllm:inter_token_latency_seconds"),
        ("prefixCacheHits", "0.33.0", "vllm:prefix_cache_hits_total"),
    ],
)
def test_a_renamed_metric_is_found_under_its_versions_name(meaning: str, version: str, name: str):
    assert metrics(Version.parse(version))[meaning].name == name


@pytest.mark.parametrize("version", [OLDEST, NEWEST_KNOWN], ids=str)
def test_every_meaning_has_a_metric_in_every_version(version: Version):
    assert set(metrics(version)) == {row["meaning"] for row in rows("metrics.csv")}
