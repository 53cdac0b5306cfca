"""What can be said of the image and the workflow without a container engine or a hosted runner."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from chart.support import ROOT
from images.operator import ARCHIVE
from localcluster import binaries

DOCKERFILE = (ROOT / "Dockerfile").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined."""
    code = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in code.splitlines() if line)
    ]


def last_stage() -> list[tuple[str, str]]:
    starts = [at for at, (name, _rest) in enumerate(instructions()) if name == "FROM"]
    return instructions()[starts[-1] :]


def jobs() -> dict[str, dict[str, Any]]:
    return {
        f"{path.name}/{name}": job
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    }


def test_everything_that_the_image_installs_is_pinned_by_hash_or_is_this_project() -> None:
    installs = [
        command
        for name, rest in instructions()
        if name == "RUN"
        for command in rest.split("&&")
        if "pip" in command and " install " in command
    ]
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command
    for name in ("requirements.txt", "requirements-build.txt"):
        pins = re.findall(
            r"^[\w.-]+==\S+.*?(?=^[\w.-]+==|\Z)", (ROOT / name).read_text(), re.M | re.S
        )
        assert pins
        assert all("--hash=sha256:" in pin for pin in pins)


def test_the_image_runs_as_the_charts_user_and_starts_the_operator() -> None:
    stage = dict(last_stage())
    assert stage["USER"] == "65532:65532"
    assert stage["ENTRYPOINT"] == '["vllm-operator"]'
    assert stage["EXPOSE"] == "8080"
    assert [name for name, _rest in last_stage()].count("RUN") == 0


def test_both_stages_have_the_same_python_which_can_be_given() -> None:
    ((name, default),) = [
        rest.split("=", 1) for instruction, rest in instructions() if instruction == "ARG"
    ]
    bases = [rest.split()[0] for instruction, rest in instructions() if instruction == "FROM"]
    assert bases == [f"${{{name}}}"] * 2
    assert re.fullmatch(r"python:3\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", default)


def test_python_finds_in_the_image_the_byte_code_that_the_build_left() -> None:
    (check,) = [rest for name, rest in instructions() if name == "RUN" and "prune.py check" in rest]
    (written,) = re.findall(r"PYTHONPYCACHEPREFIX=(\S+)", check)
    variables = dict(variable.split("=", 1) for variable in dict(last_stage())["ENV"].split())
    assert variables["PYTHONPYCACHEPREFIX"] == written
    assert written.startswith("/venv/")
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_build_context_holds_what_the_image_copies_and_nothing_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert "*" in ignore
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_actionlint_accepts_the_workflows() -> None:
    actionlint = binaries.ensure("actionlint")["actionlint"]
    answer = subprocess.run(
        [actionlint, "-no-color", *WORKFLOWS], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_and_keep_no_credentials(path: Any) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in path.read_text()
    assert "secrets." not in path.read_text()


def test_only_publishing_may_write_and_only_packages_of_a_tag_that_all_other_jobs_accepted() -> (
    None
):
    (name,) = [name for name, job in jobs().items() if "permissions" in job]
    job = jobs()[name]
    assert job["permissions"] == {"contents": "read", "packages": "write"}
    assert job["if"] == "github.event_name == 'push' && startsWith(github.ref, 'refs/tags/v')"
    (workflow,) = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    # YAML 1.1 reads `on` as a truth value.
    assert workflow[True]["push"]["tags"] == ["v[0-9]+.[0-9]+.[0-9]+"]
    others = {other.partition("/")[2] for other in jobs() if other != name}
    assert set(job["needs"]) == others
    release = " ".join(step.get("run", "") for step in job["steps"])
    assert 'make release VERSION="${GITHUB_REF_NAME#v}"' in release


def test_the_archive_that_make_e2e_tested_is_published_and_pulled_by_the_chart() -> None:
    ((_, tested), (_, publish)) = [
        (name, job) for name, job in jobs().items() if name.endswith(("/e2e", "/publish"))
    ]
    (kept,) = [s["with"] for s in tested["steps"] if "upload-artifact@" in s.get("uses", "")]
    (given,) = [s["with"] for s in publish["steps"] if "download-artifact@" in s.get("uses", "")]
    assert kept["name"] == given["name"]
    assert kept["if-no-files-found"] == "error"
    assert kept["path"] == f"{given['path']}/e2e.tar"
    # tests/e2e makes it there.
    assert ROOT / kept["path"] == ARCHIVE.with_name("e2e.tar")
    assert 'ARCHIVE.with_name("e2e.tar")' in (ROOT / "tests" / "e2e" / "conftest.py").read_text()
    commands = "".join(step.get("run", "") for step in publish["steps"])
    assert f"IMAGE={kept['path']}" in commands
    assert 'REPOSITORY="ghcr.io/${GITHUB_REPOSITORY_OWNER,,}/vllm-operator"' in commands
    assert "docker build" not in commands
    assert "make image" not in commands


def test_make_e2e_has_the_commit_before_and_may_not_skip() -> None:
    (job,) = [job for name, job in jobs().items() if name.endswith("/e2e")]
    assert job["steps"][0]["with"]["fetch-depth"] == 2
    # sudo passes on no variable but those that are named behind it.
    (command,) = [s["run"] for s in job["steps"] if "make e2e" in s.get("run", "")]
    assert re.fullmatch(r'sudo env "PATH=\$PATH" make e2e', command)


@pytest.mark.parametrize("name", jobs())
def test_jobs_end_by_themselves_and_name_their_actions_by_version(name: str) -> None:
    job = jobs()[name]
    assert job["timeout-minutes"] <= 60
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"(actions|docker)/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_make_target_that_a_workflow_runs_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = {
        target
        for job in jobs().values()
        for step in job["steps"]
        for target in re.findall(r"\bmake ([\w-]+)", step.get("run", ""))
    }
    assert used == {"test", "test-engine", "test-tuning", "image", "e2e", "release"}
    for target in used:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
