"""What measures tuning on the real engine."""

from __future__ import annotations

import pytest
from tuning_real_engine import Gaps, flags, kept

TEXT = """\
# HELP vllm:inter_token_latency_seconds gaps
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.025",model_name="tiny"} 30.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.05",model_name="tiny"} 90.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 100.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="tiny"} 100.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="tiny"} 4.0
vllm:inter_token_latency_seconds_created{engine="0",model_name="tiny"} 1.79e+09
vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 7.0
"""


def test_gaps_are_read_with_those_within_the_objective() -> None:
    assert Gaps.read(TEXT, 50) == Gaps(100.0, 4.0, 90.0)


def test_gaps_of_before_are_not_counted() -> None:
    assert Gaps.read(TEXT, 25).since(Gaps(40.0, 1.0, 10.0)) == Gaps(60.0, 3.0, 20.0)


@pytest.mark.parametrize(("share", "is_kept"), [(0.9, True), (0.899, False)])
def test_an_objective_is_kept_by_nine_gaps_of_ten(share: float, is_kept: bool) -> None:
    assert kept({"within": share}) is is_kept


def test_the_flags_that_are_tuned_are_read_from_the_command() -> None:
    command = ["vllm", "serve", "--max-num-seqs", "16", "--port", "8000"]
    assert flags(command) == {"max-num-seqs": 16}
