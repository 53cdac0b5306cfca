"""What the image's environment lacks is not missed: commands, look-ups, every module."""

import ast
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from support.hub import playing_hub
from support.pruned import PRUNE, ROOT, in_site, pruned_site

pytestmark = pytest.mark.xdist_group("pruned")  # it is made once
GPU = ("--gpu", "NVIDIA-H100-80GB-HBM3", "--gpus-per-node", "8")
SERVER = """\
---
apiVersion: vllm-operator.io/v1alpha1
kind: VLLMServer
metadata: {name: asks}
spec: {model: {id: %s}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pruned_site(tmp_path_factory.mktemp("pruned"))


def command(site: Path, *arguments: str) -> str:
    answer = in_site(site, "-m", "vllm_operator", *arguments)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.parametrize(
    "module", ["hf_xet", "kubernetes.client.CoreV1Api", "kubernetes.aio.client.V1Pod"]
)
def test_what_the_operator_never_imports_is_gone(site: Path, module: str) -> None:
    package, _, name = module.rpartition(".")
    statement = f"from {package} import {name}" if package else f"import {name}"
    answer = in_site(site, "-c", statement)
    assert "ModuleNotFoundError" in answer.stderr


def test_a_module_that_is_missing_fails_the_build(site: Path) -> None:
    without = "import sys; sys.modules['kubernetes.aio.leaderelection'] = None; sys.argv[1:] = []; "
    run = f"import runpy; runpy.run_path({str(PRUNE)!r}, run_name='__main__')"
    answer = in_site(site, "-c", without + run)
    assert answer.returncode != 0
    assert "kubernetes.aio.leaderelection" in answer.stderr


def test_what_is_imported_cannot_be_left_out(site: Path) -> None:
    arguments = "import prune; prune.import_all(); prune.prune(unused=('rich',))"
    path = f"import sys; sys.path.append({str(PRUNE.parent)!r}); "
    answer = in_site(site, "-c", path + arguments)
    assert answer.returncode == 1
    assert "rich is to be left out and is imported: " in answer.stderr
    assert (site / "rich" / "table.py").exists()


def test_every_module_of_the_operator_and_of_kopf_imports_and_leaves_its_byte_code(
    site: Path,
) -> None:
    bytecode = site.parent / "bytecode"
    compiled = "".join(str(path) for path in bytecode.rglob("*.pyc"))
    sources = [*site.glob("vllm_operator/**/*.py"), *site.glob("kopf/**/*.py")]
    # The scripts are texts that run in servers' pods.
    modules = [
        path for path in sources if path.stem != "__main__" and path.parent.stem != "scripts"
    ]
    missing = [path for path in modules if f"{path.with_suffix('')}." not in compiled]
    assert not missing
    assert "/dataclasses." in compiled  # Python's own
    assert not list(bytecode.rglob("pygments/lexers/*.pyc"))


def test_what_is_not_installed_for_a_processor_need_not_be_taken_out(site: Path) -> None:
    again = in_site(site, "-PB", str(PRUNE))  # hf-xet went the first time
    assert again.returncode == 0, again.stderr


def hidden(text: str) -> list[str]:
    """Imports of a client's modules as a whole, of which nobody sees what is asked for later."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [name for name in names if name.partition(".")[0] == "kubernetes"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kubernetes"):
            module = importlib.import_module(str(node.module))
            taken = [getattr(module, alias.name, None) for alias in node.names]
            whole = [one.__name__ for one in taken if isinstance(one, ModuleType)]
            found += [name for name in whole if "client" in name.split(".")]
            found += [f"{node.module}.*" for alias in node.names if alias.name == "*"]
    return found


@pytest.mark.parametrize(
    "form",
    [
        "import kubernetes",
        "import kubernetes.client",
        "def later():\n    import kubernetes.aio.client.models as models",
        "from kubernetes import client",
        "from kubernetes.aio import client, config",
        "from kubernetes.client import models",
        "from kubernetes.client import *",
    ],
)
def test_a_form_of_import_that_hides_what_is_taken_of_the_client_is_seen(form: str) -> None:
    assert len(hidden(form)) == 1


def test_the_operator_says_by_name_what_it_takes_of_the_client() -> None:
    texts = [path.read_text() for path in (ROOT / "operator").rglob("*.py")]
    assert any("from kubernetes." in text for text in texts)
    assert [name for text in texts for name in hidden(text)] == []


def test_help_and_the_definition_are_printed(site: Path) -> None:
    assert "operate them" in command(site, "--help")
    crd = (ROOT / "crds" / "vllmservers.vllm-operator.io.yaml").read_text()
    assert command(site, "crd") == crd


def test_the_examples_are_planned_and_rendered(site: Path, tmp_path: Path) -> None:
    texts = [path.read_text() for path in sorted((ROOT / "examples").glob("*.yaml"))]
    together = tmp_path / "examples.yaml"
    together.write_text("\n---\n".join(texts))
    for name in ("plan", "render"):
        told = command(site, name, "-f", str(together), *GPU, "--offline")
        assert "Qwen/Qwen2.5-7B-Instruct" in told


def test_the_hub_is_asked(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "asks.yaml"
    manifest.write_text(SERVER % "missing/model" + SERVER % "org/model")
    with playing_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        told = in_site(
            site, "-m", "vllm_operator", "plan", "-o", "json", "-f", str(manifest), *GPU
        ).stdout
    missing, read = (document["problems"][0] for document in json.loads(told))
    assert "the Hub has no public repository missing/model" in missing["message"]
    # Its config was read, and holds little.
    assert read["field"] == "spec.model.config.num_attention_heads"
    assert any(path.startswith("/api/models/org/model") for path in hub.paths)
