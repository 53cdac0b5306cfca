"""What the documentation says of profiles, parsers and extra arguments is what the code does."""

from pathlib import Path
from typing import get_args

from vllm_operator.api.workload import Profile
from vllm_operator.engine.arguments import Verdict
from vllm_operator.engine.tables import rows
from vllm_operator.sizing.asked.workload_profiles import PROFILES

SIZING = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text(encoding="utf-8")


def test_every_profile_has_its_row_and_its_effect() -> None:
    assert set(PROFILES) == set(get_args(Profile))
    for name in PROFILES:
        assert f"| `{name}`" in SIZING, name


def test_every_parser_that_vllm_names_for_a_model_stands_with_it() -> None:
    for row in rows("parsers.csv"):
        if row["models"] and not row["until"]:
            line = f"| `{row['parser']}` (from {row['since']}) | {row['models']} |"
            assert line in SIZING, line


def test_every_verdict_on_an_extra_argument_is_explained() -> None:
    for verdict in get_args(Verdict):
        assert f"| `{verdict}` |" in SIZING, verdict
    for row in rows("extra_arguments.csv"):
        if row["verdict"] == "modelled" and row["flag"] != "--cuda-graph-sizes":
            assert f"`{row['flag']}`" in SIZING, row["flag"]
