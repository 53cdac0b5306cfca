"""``vllm-operator run`` as far as it comes without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys

NAMELESS = """\
import pwd
def getpwuid(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = getpwuid
from vllm_operator.cli.main import main
main(["run", "--listen="])
"""


def test_it_needs_neither_the_name_nor_the_home_of_its_user() -> None:
    missing = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "KUBERNETES_SERVICE_HOST")
    variables = {name: value for name, value in os.environ.items() if name not in missing}
    variables["KUBECONFIG"] = "/proc/no-such-file"
    answer = subprocess.run(
        [sys.executable, "-c", NAMELESS], env=variables, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "vllm-operator: Invalid kube-config file" in answer.stderr
