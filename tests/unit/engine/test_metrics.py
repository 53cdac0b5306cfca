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


@pytest.mark.parametrize(
    ("meaning", "before", "first"),
    [
        ("timePerOutputToken", "0.10.2", "0.11.0"),
        ("engineSleepState", "0.11.0", "0.11.1"),
        ("prefillComputedTokens", "0.12.0", "0.13.0"),
        ("promptTokensBySource", "0.15.1", "0.16.0"),
        ("promptTokensCached", "0.15.1", "0.16.0"),
        ("estimatedFlops", "0.16.0", "0.17.0"),
        ("requestsWaitingByReason", "0.19.1", "0.20.0"),
        ("requestPreemptions", "0.29.0", "0.30.0"),
        ("admissionRejections", "0.31.0", "0.32.0"),
    ],
)
def test_a_metric_is_named_from_the_first_version_that_has_it(
    meaning: str, before: str, first: str
):
    assert meaning not in metrics(Version.parse(before))
    assert meaning in metrics(Version.parse(first))


@pytest.mark.parametrize("version", [OLDEST, NEWEST_KNOWN], ids=str)
def test_what_every_version_exports_has_a_name_in_every_version(version: Version):
    assert set(metrics(version)) >= {
        "cacheConfig",
        "finishedRequests",
        "generationTokens",
        "interTokenLatency",
        "kvCacheUsage",
        "outputLength",
        "preemptions",
        "prefixCacheHits",
        "processStart",
        "promptLength",
        "promptTokens",
        "queueTime",
        "requestLatency",
        "requestsRunning",
        "requestsWaiting",
        "stepTokens",
        "timeToFirstToken",
    }


def test_nothing_is_named_that_the_newest_version_lacks():
    assert set(metrics(NEWEST_KNOWN)) == {row["meaning"] for row in rows("metrics.csv")}
