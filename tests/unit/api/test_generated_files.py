"""What is generated from the types is committed as it is generated."""

from pathlib import Path

import yaml
from click.testing import CliRunner

from vllm_operator.api.conditions import REASONS
from vllm_operator.api.crd import CRD_NAME, custom_resource_definition
from vllm_operator.api.crd import REGENERATE as REGENERATE_CRD
from vllm_operator.api.offline import field_paths
from vllm_operator.api.reference import REGENERATE as REGENERATE_REFERENCE
from vllm_operator.cli.crd import crd

ROOT = Path(__file__).parents[3]


def test_the_committed_definition_is_the_generated_one():
    committed = ROOT / "crds" / f"{CRD_NAME}.yaml"
    result = CliRunner().invoke(crd)
    assert result.exit_code == 0
    assert committed.read_text() == result.stdout, f"regenerate it: {REGENERATE_CRD}"
    assert yaml.safe_load(result.stdout) == custom_resource_definition()


def test_the_committed_reference_is_the_generated_one():
    committed = ROOT / "docs" / "reference" / "vllmserver.md"
    result = CliRunner().invoke(crd, ["--reference"])
    assert result.exit_code == 0
    assert committed.read_text() == result.stdout, f"regenerate it: {REGENERATE_REFERENCE}"


def test_the_definition_repeats_instead_of_pointing_with_anchors():
    text = CliRunner().invoke(crd).stdout
    assert not [line for line in text.splitlines() if ": &" in line or ": *" in line]


def test_the_reference_has_a_row_for_each_field_condition_and_reason():
    text = CliRunner().invoke(crd, ["--reference"]).stdout
    for path in field_paths():
        assert f"| `{path}` |" in text
    for condition, reasons in REASONS.items():
        assert f"### {condition}\n" in text
        for reason in reasons:
            assert f"| `{reason}` |" in text
