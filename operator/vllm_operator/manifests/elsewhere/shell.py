"""A script: vLLM as it is installed on the machine, in the foreground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vllm_operator.manifests.planned import Planned

from .container import Container
from .devices import Devices
from .head import comments, figures, needs, untold
from .health import LOCAL, address
from .paths import expected, moved, moves, wanted
from .quoting import continued, lines, shell_word
from .sizes import binary

CACHE = "/\0cache"
"""Stands for the folder that the script chooses: no text of a specification holds a NUL."""
OWN_OF_PODS = {"HOME": "/tmp", "USER": "vllm"}
"""What a pod's user lacks and whoever starts a script has."""


def shell(planned: Planned, container: Container, devices: Devices) -> str:
    """The script, for bash."""
    head = comments(
        [
            *figures(planned),
            *needs(container, devices),
            *_usage(planned, container, devices),
            *untold(planned, container, "shell"),
        ]
    )
    body = [
        "set -euo pipefail",
        _gpus(devices, planned.plan.placement.gpu),
        *([_cache(container)] if CACHE in moves(container, CACHE).values() else []),
        *([_references(container)] if container.references else []),
        *([_places(container)] if list(expected(container)) else []),
        _started(container),
    ]
    return f"#!/usr/bin/env bash\n{head}" + "\n\n".join(body) + "\n"


def _usage(planned: Planned, container: Container, devices: Devices) -> Iterator[str]:
    yield (
        f"Runs the vllm that PATH finds, which has to be version {planned.plan.engine.version}. "
        f"{devices.variable} chooses other GPUs, SERVER_CACHE another folder for what is "
        "downloaded. Arguments of the script are added to those of vllm serve: --host 0.0.0.0 "
        f"lets others than this machine ask. /dev/shm takes {binary(container.shared_memory)}."
    )
    yield (
        f"It serves once {address()} answers. Nothing restarts it: systemd does (--target "
        f"systemd). SIGTERM stops it; allow it {container.stop_seconds} s before SIGKILL."
    )
    yield from wanted(expected(container))


def _gpus(devices: Devices, product: str) -> str:
    name, count = devices.variable, len(devices.ids)
    return (
        f'export {name}="${{{name}:-{devices.listed}}}"\n'
        f'IFS=, read -r -a gpus <<<"${name}"\n'
        f'if [ "${{#gpus[@]}}" -ne {count} ]; then\n'
        f'  echo "{count} x {product} are planned, {name} names ${{#gpus[@]}}: ${name}" >&2\n'
        "  exit 2\n"
        "fi"
    )


def _cache(container: Container) -> str:
    default = f"${{XDG_CACHE_HOME:-$HOME/.cache}}/vllm-{container.name}"
    return f'cache="${{SERVER_CACHE:-{default}}}"\nmkdir -p "$cache"'


def _references(container: Container) -> str:
    return "\n".join(
        f': "${{{one.variable}:?set it, to {one}}}"\nexport {one.variable}'
        for one in container.references
    )


def _places(container: Container) -> str:
    return "\n".join(
        f"[ -e {shell_word(place)} ] || "
        f"{{ echo {shell_word(f'{place} is not there: {mount.what}')} >&2; exit 2; }}"
        for place, mount in expected(container)
    )


def _started(container: Container) -> str:
    """The last command. ``env`` sets the variables: none of them changes the script itself."""
    places = moves(container, CACHE)
    program, verb, *arguments = container.command
    variables = [
        f"{name}={_word(value, places)}"
        for name, value in container.environment.items()
        if OWN_OF_PODS.get(name) != value
    ]
    spelt = lines(arguments, lambda text: _word(text, places))
    first = f"{shell_word(program)} {shell_word(verb)}"
    return continued(["exec env", *variables, first, *spelt, f'--host {LOCAL} "$@"'])


def _word(text: str, places: Mapping[str, str]) -> str:
    """A word, in which the folder that is chosen at the start keeps its variable."""
    before, found, after = moved(text, places).partition(CACHE)
    if not found:
        return shell_word(before)
    flag = shell_word(before) if before else ""
    return f'{flag}"$cache"{shell_word(after) if after else ""}'
