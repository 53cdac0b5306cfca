"""What is rendered of every example is read by those who will read it, as far as they are here."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from unit.manifests.elsewhere.support import (
    DATA,
    EXAMPLES,
    FOLDER,
    TARGETS,
    Example,
    entries,
    example_planned,
    example_rendered,
    needed,
    service,
    shell_command,
    unit_words,
    values,
)
from vllm_operator.manifests.elsewhere.fields import Target

EACH = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
GENERATORS = ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet")


@lru_cache(maxsize=1)
def compose_schema() -> Any:
    return fastjsonschema.compile(json.loads((DATA / "compose-spec.json").read_text()))


def test_every_server_of_the_examples_is_read_the_guides_recipes_among_them() -> None:
    files = {path for path in FOLDER.rglob("*.yaml") if "kind: VLLMServer" in path.read_text()}
    assert {one.path for one in EXAMPLES} == files
    assert sum("guides" in one.path.parts for one in EXAMPLES) >= 13


@EACH
def test_a_compose_file_is_one_by_the_specification_s_schema(example: Example) -> None:
    compose_schema()(yaml.safe_load(example_rendered(example, "compose")))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    document = yaml.safe_load(example_rendered(EXAMPLES[0], "compose"))
    document["services"]["qwen"]["shared_memory"] = "2g"
    with pytest.raises(fastjsonschema.JsonSchemaValueException, match="shared_memory"):
        compose_schema()(document)


def docker_with_compose() -> str | None:
    docker = shutil.which("docker")
    version = [docker or "", "compose", "version"]
    if docker is None or subprocess.run(version, capture_output=True, check=False).returncode:
        return None
    return docker


def test_docker_compose_reads_them(tmp_path: Path) -> None:
    docker = needed(docker_with_compose(), "docker compose", "the specification's schema")
    for example in EXAMPLES:
        text = example_rendered(example, "compose")
        (tmp_path / "compose.yaml").write_text(text)
        for one in service(text).get("env_file", []):
            (tmp_path / one["path"]).touch()
        subprocess.run([docker, "compose", "config", "--quiet"], cwd=tmp_path, check=True)


@EACH
def test_systemd_finds_nothing_wrong_with_a_unit(example: Example, tmp_path: Path) -> None:
    analyze = needed(shutil.which("systemd-analyze"), "systemd", "that a unit reads back the same")
    unit = tmp_path / "vllm-x.service"
    unit.write_text(example_rendered(example, "systemd"))
    ended = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


@EACH
def test_bash_and_shellcheck_find_nothing_wrong_with_a_script(
    example: Example, tmp_path: Path
) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(example_rendered(example, "shell"))
    subprocess.run(["bash", "-n", str(script)], check=True)
    ended = subprocess.run([SHELLCHECK, str(script)], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("", 0)


@EACH
def test_a_quadlet_has_podman_s_keys_alone(example: Example) -> None:
    with (DATA / "quadlet_keys.csv").open() as file:
        known = {row["key"] for row in csv.DictReader(file)}
    assert {
        key for key, _ in entries(example_rendered(example, "podman-quadlet"), "Container")
    } <= known


def test_podman_s_generator_takes_quadlets(tmp_path: Path) -> None:
    found = next((path for path in GENERATORS if Path(path).exists()), None)
    generator = needed(found, "podman", "the list of its keys")
    for example in EXAMPLES:
        text = example_rendered(example, "podman-quadlet")
        (tmp_path / f"{example.stem}.container").write_text(text)
    ended = subprocess.run(
        [generator, "-dryrun", "-user"],
        env={"QUADLET_UNIT_DIRS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("ExecStart=") == len(EXAMPLES)


@EACH
def test_every_target_runs_the_command_of_the_pods(example: Example) -> None:
    command = example_planned(example).plan.engine.command
    found = service(example_rendered(example, "compose"))
    assert [*found["entrypoint"], *found["command"]] == command
    quadlet = example_rendered(example, "podman-quadlet")
    (entrypoint,), (words,) = (values(quadlet, "Container", key) for key in ("Entrypoint", "Exec"))
    assert [entrypoint, *unit_words(words, expands=True)] == command
    (started,) = values(example_rendered(example, "systemd"), "Service", "ExecStart")
    local = ["--host", "127.0.0.1"]
    assert unit_words(started, expands=True) == ["/usr/bin/env", *command, *local]
    assert shell_command(example_rendered(example, "shell")) == [*command, *local, "$@"]


@pytest.mark.parametrize("target", TARGETS)
@EACH
def test_the_same_comes_out_each_time(example: Example, target: Target) -> None:
    assert example_rendered(example, target) == example_rendered(example, target)


@pytest.mark.parametrize("target", TARGETS)
@EACH
def test_comments_are_of_a_page_s_width_and_end_with_a_stop(
    example: Example, target: Target
) -> None:
    head = [
        line
        for line in example_rendered(example, target).splitlines()
        if line.startswith("#") and not line.startswith("#!")
    ]
    assert max(map(len, head)) <= 100
    joined = "\n".join(head).replace("\n#   ", " ").splitlines()
    assert [line for line in joined if not line.endswith(".")] == []
