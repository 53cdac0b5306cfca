"""Debian's packages, installed where a program of theirs is missing."""

import os
import shutil
from collections.abc import Mapping

from localcluster import binaries
from localcluster.building import run_with_progress, say
from localcluster.errors import BuildError


def ensure(programs: Mapping[str, str], purpose: str) -> None:
    """Installs the packages (values) whose programs (keys) are not on PATH. Raises BuildError.

    `purpose` begins the messages: "real nodes".
    """
    missing = {one: package for one, package in programs.items() if shutil.which(one) is None}
    if not missing:
        return
    names = sorted(set(missing.values()))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildError(
            f"{purpose} take {', '.join(missing)}, which this machine lacks: install "
            f"{', '.join(names)}, or be root on Debian or Ubuntu, where that is done by itself"
        )
    cache = binaries.cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    say(f"{purpose} take {', '.join(missing)}: installing {', '.join(names)} with apt-get")
    # The lists' own failures count for nothing: what is asked for may be known already.
    script = 'apt-get update; apt-get install --yes --no-install-recommends "$@"'
    run_with_progress(
        ["sh", "-c", script, "sh", *names],
        cache,
        {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        cache / "apt.log",
        f"installing {', '.join(names)}",
    )
