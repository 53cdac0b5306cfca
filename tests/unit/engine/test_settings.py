"""What the engine's configuration refuses inside a flag's value."""

from typing import Any

import pytest

from vllm_operator.engine.settings import CHECKS, RULES, setting_problems
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

REFUSED = [
    ("--compilation-config", {"custom_ops": ["rms_norm"]}, "'rms_norm' is none of all, none"),
    ("--compilation-config", {"custom_ops": ["all", "none"]}, "has all and none; keep one"),
    ("--compilation-config", {"custom_ops": ["+silu", "-silu"]}, "has +silu and -silu; keep one"),
    ("--compilation-config", {"backend": "openxla"}, "'openxla' is none of eager and inductor"),
    ("--compilation-config", {"compile_ranges_endpoints": [512, 0]}, "above 0, and 0 is none"),
    ("--compilation-config", {"compile_ranges_endpoints": 512}, "must be a list, and is 512"),
    ("--custom-histogram-buckets", {"request_latency": []}, "request_latency must be a list"),
    ("--custom-histogram-buckets", {"request_latency": [2, 1]}, "request_latency must be a list"),
    ("--custom-histogram-buckets", {"request_latency": [0, 1]}, "request_latency must be a list"),
    ("--custom-histogram-buckets", {"request_latency": [1, True]}, "request_latency must be"),
    ("--custom-histogram-buckets", {"latency": [1]}, "latency is none of request_latency, "),
    ("--numa-bind-cpus", ["0-3", "a"], "'a' is no list of processors such as 0-3"),
    ("--numa-bind-cpus", ["3-0"], "'3-0' has a range that falls"),
    ("--pooler-config", {"pooling_type": "mean"}, "'mean' is none of CLS, LAST, MEAN, ALL, STEP"),
    ("--profiler-config", {"profiler": "torch"}, "without torch_profiler_dir; add a folder"),
    ("--profiler-config", {"torch_profiler_dir": "/tmp"}, "without profiler torch; add it"),
    ("--profiler-config", {"profiler": "proton"}, "which may not be set here"),
    ("--profiler-config", {"max_iterations": -1}, "max_iterations is -1"),
    (
        "--structured-outputs-config",
        {"disable_any_whitespace": True},
        "with another backend than xgrammar or guidance; add the key backend",
    ),
]
KEYS = (
    "backend", "compile_ranges_endpoints", "compile_ranges_split_points", "custom_ops",
    "disable_any_whitespace", "max_iterations", "mode", "pooling_type", "profiler",
    "request_latency", "torch_profiler_dir",
)  # fmt: skip
TAKEN = [
    ("--compilation-config", {"custom_ops": ["none", "+rms_norm", "-silu"]}),
    ("--compilation-config", {"compile_ranges_endpoints": [512, 2048]}),
    ("--compilation-config", {"backend": "openxla", "mode": 1}),
    ("--compilation-config", 3),
    ("--custom-histogram-buckets", {"request_latency": [0.5, 1, 2]}),
    ("--numa-bind-cpus", ["0-3", "0,2,4-7"]),
    ("--pooler-config", {"pooling_type": "MEAN"}),
    ("--profiler-config", {"profiler": "torch", "torch_profiler_dir": "/tmp"}),
    ("--profiler-config", {"delay_iterations": 0}),
    ("--structured-outputs-config", {"disable_any_whitespace": True, "backend": "guidance"}),
    ("--seed", 3),
]


def problems(flag: str, value: Any, version: Version = NEWEST_KNOWN) -> list[str]:
    return list(setting_problems(flag, value, version))


@pytest.mark.parametrize(("flag", "value", "text"), REFUSED)
def test_what_the_configuration_refuses_is_told(flag: str, value: Any, text: str):
    (found,) = problems(flag, value)
    assert text in found


@pytest.mark.parametrize("value", [None, 5, True, "x", ["x"], [[]], {"a": 1}], ids=repr)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("flag", sorted(set(RULES) - {"--numa-bind-cpus"}))
def test_no_shape_of_a_value_is_too_much_for_a_rule(flag: str, key: str, value: Any):
    assert all(isinstance(text, str) for text in problems(flag, {key: value}))


@pytest.mark.parametrize(("flag", "value"), TAKEN)
def test_what_the_configuration_takes_is_not_told(flag: str, value: Any):
    assert problems(flag, value) == []


@pytest.mark.parametrize(
    ("flag", "value", "before", "first"),
    [
        ("--compilation-config", {"custom_ops": ["x"]}, "0.11.2", "0.12.0"),
        ("--compilation-config", {"custom_ops": ["+x", "-x"]}, "0.27.0", "0.28.0"),
        ("--compilation-config", {"compile_ranges_split_points": [0]}, "0.13.0", "0.14.0"),
        ("--custom-histogram-buckets", {"request_latency": []}, "0.31.0", "0.32.0"),
        ("--numa-bind-cpus", ["a"], "0.19.0", "0.20.0"),
        ("--profiler-config", {"profiler": "torch"}, "0.13.0", "0.14.0"),
    ],
)
def test_a_rule_holds_from_its_first_release_on(flag: str, value: Any, before: str, first: str):
    assert problems(flag, value, Version.parse(before)) == []
    assert problems(flag, value, Version.parse(first)) != []


def test_each_rule_of_the_table_is_checked_and_of_a_flag():
    named = {row["rule"] for row in rows("settings.csv")}
    assert named == set(CHECKS)
    assert named == {rule for found in RULES.values() for rule in found}
