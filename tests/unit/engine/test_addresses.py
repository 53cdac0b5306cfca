"""Which vLLM reads a model from which object store."""

from __future__ import annotations

import pytest

from vllm_operator.engine.addresses import unread_because
from vllm_operator.engine.versions import Version


@pytest.mark.parametrize(
    ("scheme", "version"),
    [
        ("s3", "0.8.5.post1"),
        ("s3", "0.9.2"),
        ("s3", "0.10.2"),
        ("s3", "0.11.1"),
        ("gs", "0.11.1"),
        ("az", "0.18.0"),
        ("az", "0.34.0"),
    ],
)
def test_a_version_that_reads_a_store_is_not_refused(scheme: str, version: str) -> None:
    assert unread_because(scheme, Version.parse(version)) is None


@pytest.mark.parametrize(
    ("scheme", "version", "told"),
    [
        (
            "s3",
            "0.11.0",
            "vLLM 0.11.0 does not read s3:// addresses; 0.8.5 to 0.10.0, 0.10.2, 0.11.1 and newer "
            "do",
        ),
        ("gs", "0.10.2", "vLLM 0.10.2 does not read gs:// addresses; 0.11.1 and newer do"),
        ("az", "0.17.1", "vLLM 0.17.1 does not read az:// addresses; 0.18.0 and newer do"),
    ],
)
def test_one_that_does_not_is_refused_with_those_that_do(
    scheme: str, version: str, told: str
) -> None:
    assert unread_because(scheme, Version.parse(version)) == told
