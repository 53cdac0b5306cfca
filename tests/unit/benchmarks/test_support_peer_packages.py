from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import support_peer_packages as packages
import support_planners
from support_forecasts import Forecast
from support_logs import read_rows, scored
from support_peer_packages import PACKAGES, Package, PackageUnavailable, Planner
from support_peers import PeerFacts
from support_starts import LoggedStart

from vllm_operator.models.facts import ModelFacts

GIBIBYTE = 1024**3
LLAMA = next(one for one in scored(read_rows()) if one.id == "L150")
FACTS = ModelFacts(config={"hidden_size": 4096}, weight_bytes=16 * GIBIBYTE, source="catalogue")
NOTHING_PRINTED = "import sys; sys.stdin.read()"

Script = Callable[[str], Package]


@pytest.fixture
def package(tmp_path: Path) -> Script:
    """A package whose script is the given Python program."""

    def made(program: str) -> Package:
        script = tmp_path / "ask.py"
        script.write_text(program)
        return Package("planner", script, 0.1)

    return made


def start(**changes: object) -> LoggedStart:
    return replace(LLAMA, **changes)  # type: ignore[arg-type]


def answer(gib: float, weights: float | None = None) -> dict[str, float | None]:
    return {
        "kvBytes": gib * GIBIBYTE,
        "weightBytes": None if weights is None else weights * GIBIBYTE,
    }


def forecast(name: str, measured: float, weights: float) -> Forecast:
    return Forecast(
        start=start(id=name, weights_gib=weights),
        problem="",
        unit="GiB",
        expected=measured,
        low=measured - 1,
        measured=measured,
        facts=PeerFacts("llama", 4096, 4096, 0, 0, False),
    )


def test_a_package_is_told_the_box_s_memory_in_bytes():
    assert packages.question(LLAMA, FACTS)["memoryBytes"] == 80 * GIBIBYTE


def test_a_package_is_told_the_model_s_config_and_the_size_of_its_checkpoint():
    told = packages.question(LLAMA, FACTS)
    assert (told["config"], told["weightBytes"]) == (FACTS.config, FACTS.weight_bytes)


def test_a_package_is_told_what_a_checkpoint_is_quantised_to_as_it_is_loaded():
    assert packages.question(start(quantization="fp8"), FACTS)["quantization"] == "fp8"


def test_a_checkpoint_that_is_quantised_itself_says_so_in_its_config():
    quantised = replace(FACTS, config={"quantization_config": {"quant_method": "awq"}})
    assert packages.question(start(quantization="awq"), quantised)["quantization"] == ""


def test_a_gpu_has_the_name_that_aiconfigurator_gives_it():
    assert packages.question(LLAMA, FACTS)["system"] == "h100_sxm"


def test_a_gpu_that_aiconfigurator_does_not_know_keeps_its_name():
    told = packages.question(start(gpu_family="A40", gpu="NVIDIA-A40"), FACTS)
    assert told["system"] == "NVIDIA-A40"


def test_an_a100_of_40_gb_is_not_asked_for_as_the_one_of_80():
    small = start(gpu_family="A100", gpu="NVIDIA-A100-SXM4-40GB", gpu_memory_gib=39.5)
    assert packages.question(small, FACTS)["system"] == "NVIDIA-A100-SXM4-40GB"


def test_a_fallback_is_a_planner_of_its_own():
    found = {
        "version": "1.2",
        "answers": [
            {"native": answer(3.0, 15.0)},
            {"native": {"refusal": "no KV budget: 1 byte"}, "fallback": answer(2.0)},
        ],
    }
    read = packages.read(PACKAGES[0], ["L1", "L2"], found)
    assert read == [
        Planner(
            "aiconfigurator 1.2 (package)",
            {"L1": 3.0},
            {"L1": 15.0},
            {"L2": "sees no room for a KV cache"},
        ),
        Planner("aiconfigurator 1.2 (package, naive fallback)", {"L2": 2.0}, {}, {}),
    ]


def test_a_package_without_a_fallback_is_one_planner():
    found = {"version": "1.2", "answers": [{"native": answer(3.0)}]}
    assert len(packages.read(PACKAGES[1], ["L1"], found)) == 1


def test_starts_without_an_answer_are_counted_by_reason():
    planner = Planner("planner", {}, {}, {"L1": "no room", "L2": "unknown", "L3": "unknown"})
    assert list(planner.reasons().items()) == [("unknown", 2), ("no room", 1)]


def test_a_refusal_that_nobody_foresaw_is_shown_as_it_is():
    assert packages.reason("the moon is full") == "the moon is full"


def test_the_questions_reach_the_script(package: Script):
    echo = package("import sys; print('a banner'); print(sys.stdin.read())")
    assert packages.answers(echo, Path(sys.executable), [{"tensor": 2}]) == [{"tensor": 2}]


def test_a_failing_script_is_told_with_its_last_line(package: Script):
    failing = package("import sys; sys.exit('no such model')")
    with pytest.raises(PackageUnavailable, match=r"ask\.py ended with status 1: no such model"):
        packages.answers(failing, Path(sys.executable), [])


def test_a_script_that_prints_nothing_is_told(package: Script):
    with pytest.raises(PackageUnavailable, match="printed no JSON"):
        packages.answers(package(NOTHING_PRINTED), Path(sys.executable), [])


def test_an_interpreter_that_is_gone_is_told(package: Script, tmp_path: Path):
    with pytest.raises(PackageUnavailable, match="could not be run"):
        packages.answers(package(NOTHING_PRINTED), tmp_path / "python", [])


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    def install(package: Package, directory: Path) -> None:
        directory.mkdir()
        made.append(package.name)

    monkeypatch.setattr(packages, "_install", install)
    paths = {packages.installed(PACKAGES[0], tmp_path) for _ in range(2)}
    assert (len(paths), made) == (1, ["aiconfigurator"])


def test_two_packages_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "_install", lambda _, directory: directory.mkdir())
    assert len({packages.installed(package, tmp_path) for package in PACKAGES}) == len(PACKAGES)


def test_an_installation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def install(package: Package, directory: Path) -> None:
        directory.mkdir()
        raise PackageUnavailable("no network")

    monkeypatch.setattr(packages, "_install", install)
    with pytest.raises(PackageUnavailable, match="no network"):
        packages.installed(PACKAGES[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path):
    taken = tmp_path / "cache"
    taken.write_text("")
    with pytest.raises(PackageUnavailable, match="aiconfigurator was not installed"):
        packages.installed(PACKAGES[0], taken)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_requirement_of_a_package_is_pinned_by_hash(package: Package):
    requirements = re.split(r"\n(?=[a-z])", package.lock.read_text())[1:]
    assert [one for one in requirements if "==" not in one or "--hash=sha256:" not in one] == []


def test_a_package_that_cannot_be_had_does_not_stop_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
):
    def planners(package: Package, asked: object) -> list[Planner]:
        raise PackageUnavailable(f"{package.name} was not installed")

    monkeypatch.setattr(support_planners, "planners", planners)
    assert support_planners.packages([forecast("L1", 10.0, 15.0)]) == {
        "rows": [],
        "unanswered": {},
        "problems": ["aiconfigurator was not installed", "llm-d-planner was not installed"],
    }


def test_a_package_is_compared_on_the_starts_that_it_answers_for():
    planner = Planner("planner", {"L1": 12.0}, {}, {"L2": "no room"})
    found = [forecast("L1", 10.0, 15.0), forecast("L2", 20.0, 15.0)]
    rows = support_planners.package_rows(planner, found)
    assert {row["planner"]: (row["starts"], row["biasGiB"]) for row in rows} == {
        "planner": (1, 2.0),
        "vllm-operator, expected": (1, 0.0),
        "vllm-operator, low": (1, -1.0),
    }


def test_a_package_that_states_its_weights_is_also_judged_with_the_measured_ones():
    planner = Planner("planner", {"L1": 12.0}, {"L1": 14.0}, {})
    rows = support_planners.package_rows(planner, [forecast("L1", 10.0, 15.0)])
    corrected = next(row for row in rows if row["planner"].endswith("measured weights"))
    assert corrected["biasGiB"] == 1.0
