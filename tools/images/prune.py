"""Takes out of the image's environment what the operator never imports. Run by the Dockerfile.

Two things are large and dead here:

- The client `kubernetes` brings a module for each kind and each group of the Kubernetes API, twice,
  70 MB in all. It loads one when its name is first asked for, and nobody asks: the operator and
  Kopf send and read JSON. Those that are loaded all the same stay.
- `hf-xet` transfers files of the Hugging Face Hub in pieces, and is imported where the Hub's client
  downloads or uploads a file. The operator reads a few kilobytes by plain requests.

`check` then imports every module of the operator and of Kopf, in an interpreter of its own, so that
a build in which something is missing fails. It leaves behind the byte code of just what was
imported (Python's own modules too, of which Docker's Python images have none), without which a
start takes twice as long. By the hash of the source, as tools that build images may change files'
times.
"""

import ast
import importlib
import pkgutil
import py_compile
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

ROOTS = ("vllm_operator", "kopf")
GENERATED = tuple(
    f"kubernetes.{client}.{part}"
    for client in ("client", "aio.client")
    for part in ("api", "models")
)
UNUSED = ("hf-xet",)


def import_all() -> None:
    """Imports every module of the roots, and what they name of the client anywhere in their text.

    A name inside a function counts: it is asked for later. Of the client as a whole
    (`import kubernetes.client`) nothing could be said; a test sees that the operator never does so.
    """
    for root in ROOTS:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
        for path in Path(package.__path__[0]).rglob("*.py"):
            for module_name, name in _named(path):
                getattr(importlib.import_module(module_name), name, None)


def prune(unused: tuple[str, ...] = UNUSED) -> None:
    """Deletes the files. Raises SystemExit where one of `unused` was imported."""
    for package in GENERATED:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in Path(spec.origin).parent.glob("*.py"):
            if path.stem != "__init__" and f"{package}.{path.stem}" not in sys.modules:
                path.unlink()
    loaded = {getattr(module, "__file__", None) for module in sys.modules.values()}
    for name in unused:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # there is none for this processor
            continue
        paths = [Path(str(file.locate())) for file in files]
        used = sorted(str(path) for path in paths if str(path) in loaded)
        if used:
            sys.exit(f"{name} is to be left out and is imported: {', '.join(used)}")
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in sorted({path.parent for path in paths}, reverse=True):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def compile_imported() -> None:
    """Writes the byte code of all that is imported, under PYTHONPYCACHEPREFIX where it is set."""
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None) or ""
        if source.endswith(".py") and source != __file__:
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            py_compile.compile(source, doraise=True, invalidation_mode=mode)


def _named(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kubernetes."):
            for alias in node.names:
                yield str(node.module), alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("kubernetes."):
                    yield alias.name, ""


if __name__ == "__main__":
    import_all()
    if sys.argv[1:] == ["check"]:
        compile_imported()
    else:
        prune()
