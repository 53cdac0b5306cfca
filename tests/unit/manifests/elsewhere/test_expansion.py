"""What Kubernetes replaces in a pod's texts is replaced for every target."""

from __future__ import annotations

from typing import Any

import pytest

from unit.manifests.elsewhere.support import (
    TARGETS,
    refused,
    rendered,
    service,
    shell_command,
    shell_environment,
    unit_words,
    values,
)
from vllm_operator.manifests.elsewhere.fields import Target

TRACES = "--otlp-traces-endpoint"


def engine(endpoint: str, *env: dict[str, Any]) -> dict[str, Any]:
    return {"env": list(env), "extraArgs": [TRACES, endpoint]}


def variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def command(target: Target, text: str) -> list[str]:
    """The words of what a file runs."""
    if target == "compose":
        return list(service(text)["command"])
    if target == "shell":
        return shell_command(text)
    section, key = ("Service", "ExecStart") if target == "systemd" else ("Container", "Exec")
    (found,) = values(text, section, key)
    return unit_words(found, expands=True)


def environment(target: Target, text: str) -> dict[str, str]:
    """The variables of what a file runs."""
    if target == "compose":
        return dict(service(text)["environment"])
    if target == "shell":
        return shell_environment(text)
    quadlet = target == "podman-quadlet"
    found = values(text, "Container" if quadlet else "Service", "Environment")
    words = [word for one in found for word in unit_words(one, expands=quadlet)]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("given", "is_there"),
    [
        ("http://$(COLLECTOR):4317", "http://otel:4317"),
        ("http://$(NOBODY):4317", "http://$(NOBODY):4317"),
        ("http://$$(COLLECTOR):4317", "http://$(COLLECTOR):4317"),
        ("http://$COLLECTOR:4317", "http://$COLLECTOR:4317"),
        ("http://$(COLLECTOR", "http://$(COLLECTOR"),
    ],
)
def test_an_argument_has_the_values_of_variables(target: Target, given: str, is_there: str) -> None:
    text = rendered(target, engine=engine(given, variable("COLLECTOR", "otel")))
    words = command(target, text)
    assert words[words.index(TRACES) + 1] == is_there


@pytest.mark.parametrize("target", TARGETS)
def test_a_variable_has_the_values_of_those_before_it_alone(target: Target) -> None:
    env = [variable("A", "$(B)-a"), variable("B", "b"), variable("C", "$(B)-c")]
    found = environment(target, rendered(target, engine=engine("http://otel", *env)))
    assert (found["A"], found["C"]) == ("$(B)-a", "b-c")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("given", "field"),
    [
        (engine("http://$(KEY)@otel"), "spec.engine.extraArgs"),
        (engine("http://otel", variable("URL", "http://$(KEY)@otel")), "spec.engine.env"),
    ],
    ids=["argument", "variable"],
)
def test_a_text_with_a_secret_in_it_is_refused(
    target: Target, given: dict[str, Any], field: str
) -> None:
    key = {"name": "KEY", "secretKeyRef": {"name": "otel", "key": "key"}}
    told = refused(target, engine={**given, "env": [key, *given["env"]]})
    assert told[0] == field
    assert "has $(KEY), whose value is in no manifest; give the text" in told[1]
