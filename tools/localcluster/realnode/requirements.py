"""Whether this machine can have real nodes."""

import os
import shutil
import subprocess
import sys

from localcluster.realnode import cgroups

PACKAGES = {
    "ip": "iproute2",
    "mount": "mount",
    "nft": "nftables",
    "runc": "runc",
    "unshare": "util-linux",
}
"""The programs that a node needs of this machine, and Debian's packages that have them."""

NAMESPACES = (
    *("--mount", "--net", "--pid", "--uts", "--ipc"),
    *("--fork", "--kill-child", "--mount-proc"),
)
"""What `unshare` is given for a node: it ends with `unshare`, and that with its owner."""


def unavailable() -> str | None:
    """The first reason why not, None where there is none. Programs can be installed later."""
    if sys.platform != "linux":
        return f"a real node needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a real node needs root, for its namespaces and control groups"
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing and shutil.which("apt-get") is None:
        packages = ", ".join(PACKAGES[program] for program in missing)
        return f"a real node needs {', '.join(missing)} (Debian's packages {packages})"
    if reason := cgroups.unavailable():
        return f"a real node needs control groups, and {reason}"
    if shutil.which("unshare") is None:
        return None
    answer = subprocess.run(
        ["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        return f"a real node needs namespaces, and this machine refuses: {answer.stderr.strip()}"
    return None
