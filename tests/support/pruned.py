"""The image's environment on this machine: the locked packages and the operator, pruned alike."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRUNE = ROOT / "tools" / "images" / "prune.py"


def pruned_site(folder: Path) -> Path:
    """A folder of what `requirements.txt` locks and of the operator, as the Dockerfile leaves it.

    The files are hard links to this interpreter's own where the file system allows.
    """
    site = folder / "site"
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    for name in names:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # one of another system
            continue
        for file in files:
            if ".." not in file.parts and file.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(str(file.locate()), target)
                except OSError:
                    shutil.copy2(str(file.locate()), target)
    operator = ROOT / "operator" / "vllm_operator"
    shutil.copytree(operator, site / "vllm_operator", ignore=shutil.ignore_patterns("__pycache__"))
    for step in ([], ["check"]):
        answer = in_site(site, "-PB", str(PRUNE), *step)
        assert answer.returncode == 0, answer.stderr
    return site


def in_site(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python with nothing but its own modules and those of the folder."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PYTHONPATH": str(site),
            "PYTHONPYCACHEPREFIX": str(site.parent / "bytecode"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
