"""What ``vllm-operator explain`` tells of a server, and the curve that it draws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner, Result

from support.builders import server_manifest
from vllm_operator.api.ledger import Tuning
from vllm_operator.cli.curve import Chart, chart_of, drawn, legend, svg
from vllm_operator.cli.main import main
from vllm_operator.tuning.knobs import Objective

AT = "2026-01-01T10:00:00Z"
SETTING = {"maxNumSeqs": 16, "maxNumBatchedTokens": 8192, "gpuMemoryUtilization": 0.9}
OTHER = {**SETTING, "maxNumSeqs": 32}
PREDICTED = {"outputTokensPerSecond": {"low": 1768, "expected": 1897, "high": 2036}}
TRIAL = {
    "proposedAt": AT,
    "trigger": "requests wait",
    "diagnosis": "Sequences",
    "from": SETTING,
    "to": OTHER,
    "evidence": {
        "intervals": 248,
        "requests": 19141,
        "batchLow": 8,
        "batchHigh": 16,
        "deviationPerMille": 54,
    },
    "predicted": PREDICTED,
}
ENTRY = {
    **TRIAL,
    "startedAt": AT,
    "endedAt": "2026-01-01T11:08:00Z",
    "verdict": "Promoted",
    "reason": "the new setting keeps what it promised",
    "measured": {"minutes": 25, "requests": 1643, "slowerPerMille": 68, "plusMinusPerMille": 20},
}
CURVE = {
    "setting": SETTING,
    "percentile": 95,
    "batchLow": 8,
    "batchHigh": 16,
    "points": [
        {"requests": n, "microseconds": {"low": at - 1000, "expected": at, "high": at + 1000}}
        for n, at in ((1, 10_000), (4, 12_000), (16, 20_000), (64, 50_000))
    ],
}
PROPOSED = {
    "state": "Proposed",
    "since": AT,
    "until": "2026-01-01T11:00:00Z",
    "reason": "Proposed",
    "diagnosis": {"bound": "Sequences", "message": "all 16 places are taken"},
    "found": "max-num-seqs 16 -> 32: more tokens a second",
    "curve": CURVE,
    "trial": TRIAL,
    "history": [ENTRY],
}
SLO = {"workload": {"slo": {"interTokenLatencyMilliseconds": 40}}}


def manifest(tuning: dict[str, Any] | None, mode: str = "Auto", **spec: Any) -> dict[str, Any]:
    body = server_manifest(autotune={"mode": mode}, **{**SLO, **spec})
    if tuning is not None:
        body["status"] = {"tuning": tuning}
    return body


def explain(*bodies: dict[str, Any], options: tuple[str, ...] = ()) -> Result:
    text = yaml.safe_dump_all(bodies)
    return CliRunner().invoke(
        main, ["explain", "-f", "-", *options], input=text, env={"COLUMNS": "100"}
    )


def told(*bodies: dict[str, Any]) -> str:
    found = explain(*bodies)
    assert found.exit_code == 0, found.output
    return re.sub(r"\s+", " ", found.output)


def test_a_proposal_is_told_with_what_it_rests_on_and_what_it_should_give() -> None:
    said = told(manifest(PROPOSED))
    for part in (
        "mode Auto, disruption Forbid, at most 2 trials a day",
        "objective 95 % of gaps between tokens within 40 ms",
        "state Proposed since 2026-01-01T10:00:00Z",
        "bounded by Sequences: all 16 places are taken",
        "proposed max-num-seqs 16 -> 32",
        "predicted 1897 (1768 to 2036) output tokens a second",
        "evidence 248 intervals with 19141 requests",
        "waits for a trial to begin",
        "looked at again from 2026-01-01T11:00:00Z on",
    ):
        assert part in said


def test_a_trial_that_ended_is_told_with_its_verdict_and_what_was_measured() -> None:
    said = told(manifest(PROPOSED))
    assert "max-num-seqs 16 -> 32 was promoted after 68 minutes" in said
    assert "measured over 25 minutes with 1643 requests, steps 6.8 % slower" in said


@pytest.mark.parametrize(("mode", "advice"), [("Auto", "nothing"), ("Recommend", "pin it")])
def test_what_a_person_can_do_depends_on_the_mode(mode: str, advice: str) -> None:
    assert f"you can {advice}" in told(manifest(PROPOSED, mode))


def test_what_stands_in_the_way_of_metrics_is_told() -> None:
    body = manifest({"state": "Observing", "since": AT, "reason": "Observing"})
    body["status"]["conditions"] = [
        {
            "type": "MetricsAvailable",
            "status": "False",
            "reason": "Stale",
            "message": "the newest samples are too old",
            "observedGeneration": 1,
            "lastTransitionTime": AT,
        }
    ]
    assert "metrics Stale: the newest samples are too old" in told(body)


def test_a_server_that_is_not_tuned_says_how_it_would_be() -> None:
    said = told(server_manifest())
    assert "mode Disabled" in said
    assert "set spec.autotune.mode to Recommend or Auto" in said


def test_every_server_of_a_file_is_explained_or_the_one_that_is_named() -> None:
    first, second = manifest(PROPOSED), manifest(None)
    second["metadata"]["name"] = "llama"
    both = explain(first, second).output
    one = explain(first, second, options=("llama",)).output
    assert ("default/qwen" in both, "default/llama" in both) == (True, True)
    assert ("default/qwen" in one, "default/llama" in one) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain"], "give the NAME of a server, or a file with -f"),
        (["explain", "-f", "-", "mistral"], "holds no server mistral"),
        (["explain", "-f", "-", "-n", "team"], "holds no server in namespace team"),
        (["explain", "qwen"], "set KUBECONFIG, or give the server with -f"),
    ],
)
def test_what_cannot_be_explained_says_what_to_give(arguments: list[str], said: str) -> None:
    text = yaml.safe_dump(manifest(PROPOSED))
    environment = {"KUBECONFIG": "/no/such/file", "KUBERNETES_SERVICE_HOST": None}
    found = CliRunner().invoke(main, arguments, input=text, env=environment)
    assert found.exit_code == 2
    assert said in found.stderr


def chart(limit: float | None = 0.040, **tuning: Any) -> Chart:
    found = chart_of(
        Tuning.model_validate({**PROPOSED, **tuning}), Objective(inter_token_latency=limit)
    )
    assert found is not None
    return found


def test_the_curve_is_read_between_its_points_and_kept_beyond_them() -> None:
    assert chart().at(4) == (11.0, 12.0, 13.0)
    assert chart().at(8)[1] == pytest.approx(16.0)
    assert chart().at(1000)[1] == 50.0
    assert [mark.requests for mark in chart().marks] == [16, 32]


def test_the_picture_has_the_setting_in_force_and_the_proposed_one_below_the_objective() -> None:
    lines = drawn(chart(), 80).plain.splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = {sign: next(at for at, line in enumerate(lines) if sign in line) for sign in "○◆"}
    objective = next(at for at, line in enumerate(lines) if line.strip().startswith("40 ms"))
    assert objective < rows["◆"] < rows["○"]
    assert "○ in force 16   ◆ proposed 32" in lines[-1]


def test_an_objective_that_is_far_away_is_told_and_not_drawn() -> None:
    far = chart(limit=5.0)
    assert "objective" not in drawn(far, 80).plain
    assert "objective: 5000 ms" in legend(far)


def test_a_curve_of_another_number_of_tokens_a_step_is_said_to_be_one() -> None:
    to = {**OTHER, "maxNumBatchedTokens": 2048}
    assert "of --max-num-batched-tokens 8192" in legend(chart(trial={**TRIAL, "to": to}))[-1]


def test_without_a_curve_nothing_is_drawn(tmp_path: Path) -> None:
    tuning = {"state": "Observing", "since": AT, "reason": "Observing"}
    assert chart_of(Tuning.model_validate(tuning), None) is None
    found = explain(manifest(tuning), options=("--svg", str(tmp_path / "curve.svg")))
    assert found.exit_code == 2
    assert "nothing was learned of default/qwen yet" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_svg_is_well_formed_and_draws_inside_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "curve.svg"
    found = explain(manifest(PROPOSED), options=("--svg", str(path)))
    assert found.exit_code == 0, found.output
    root = ET.fromstring(path.read_text("utf-8"))
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    (curve,) = root.findall("svg:polyline", space)
    corners = [
        tuple(map(float, one.split(",")))
        for shape in (*root.findall("svg:polyline", space), *root.findall("svg:polygon", space))
        for one in shape.attrib["points"].split()
    ]
    assert len(corners) == 3 * len(CURVE["points"])  # type: ignore[arg-type]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in corners)
    before, proposed = root.findall("svg:circle", space)
    dashed = next(one for one in root.findall("svg:line", space) if one.get("stroke-dasharray"))
    assert float(before.attrib["cx"]) < float(proposed.attrib["cx"])
    # Down is more: the objective is above both.
    assert float(dashed.attrib["y1"]) < float(proposed.attrib["cy"]) < float(before.attrib["cy"])
    assert curve.attrib["fill"] == "none"


def test_what_an_svg_says_of_a_server_is_escaped() -> None:
    assert ET.fromstring(svg(chart(), "a<b&c"))[0].text is not None


def test_an_svg_of_several_servers_is_refused(tmp_path: Path) -> None:
    options = ("--svg", str(tmp_path / "curve.svg"))
    found = explain(manifest(PROPOSED), manifest(PROPOSED), options=options)
    assert found.exit_code == 2
    assert "give its NAME" in found.stderr


def test_a_plan_of_another_release_is_told_as_such() -> None:
    body = manifest(None)
    body["status"] = {"plan": {"from": "another release"}}
    assert "its plan it is of another release" in told(body)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("other",), "holds no server other"),
        (("-n", "there"), "holds no server in namespace there"),
        (("other", "-n", "there"), "holds no server other in namespace there"),
    ],
)
def test_a_file_without_the_server_says_what_was_looked_for(
    options: tuple[str, ...], missing: str
) -> None:
    found = explain(manifest(None), options=options)
    assert found.exit_code == 2
    assert found.output.endswith(f"{missing}\n")
