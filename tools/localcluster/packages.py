"""Debian's packages, installed where a program of theirs is missing."""

import os
import shutil
from collections.abc import Mapping

from localcluster import binaries
from localcluster.building import alone, run_with_progress, say
from localcluster.errors import BuildError

# The lists' own failures count for nothing: what is asked for may be known already. Somebody else's
# apt-get, such as the machine's nightly one, is waited for.
_SCRIPT = """\
apt-get update
apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
"""


def ensure(programs: Mapping[str, str], purpose: str) -> None:
    """Installs the packages (values) whose programs (keys) are not on PATH. Raises BuildError.

    `purpose` begins the messages: "real nodes".
    """
    missing = _missing(programs)
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildError(
            f"{purpose} take {', '.join(missing)}, which this machine lacks: install "
            f"{_packages(missing)}, or be root on Debian or Ubuntu, where that is done by itself"
        )
    cache = binaries.cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / "apt.lock", "installing packages"):
        if missing := _missing(programs):  # another process may have brought them
            names = _packages(missing)
            say(f"{purpose} take {', '.join(missing)}: installing {names} with apt-get")
            run_with_progress(
                ["sh", "-c", _SCRIPT, "sh", *names.split(", ")],
                cache,
                {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                cache / "apt.log",
                f"installing {names}",
            )


def _missing(programs: Mapping[str, str]) -> dict[str, str]:
    return {one: package for one, package in programs.items() if shutil.which(one) is None}


def _packages(programs: Mapping[str, str]) -> str:
    return ", ".join(sorted(set(programs.values())))
