"""The operator as it ships: its own image, installed by its chart, on nodes with real kubelets.

Nothing here is played but the GPUs, which are a device plugin's, and, where a test says so, vLLM.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.support import OPERATOR, RELEASE, RESTRICTED, SCRIPTED, Installation, place
from images.operator import ARCHIVE, operator_archive
from images.testing import ENGINE_AT, scripted_engine
from localcluster import Cluster, realnode
from localcluster.image_archive import archive
from realengine.environments import Environment, installed
from support.pods import create_namespace
from support.world import World
from vllm_operator.engine.versions import DEFAULT_IMAGE

NAMES = (f"place{number}" for number in itertools.count())
ENGINES = (SCRIPTED, DEFAULT_IMAGE)


@pytest.fixture(scope="session")
def machine() -> None:
    """Skips, with the reason, where no real node can be."""
    # `make e2e` fails there before any test; this is for a run of all tests by anybody.
    if reason := realnode.unavailable():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def engine_images(tmp_path_factory: pytest.TempPathFactory, machine: None) -> Path:
    """The scripted engine, under the names of the images that servers use."""
    path = tmp_path_factory.mktemp("images") / "engines.tar"
    return archive(path, *scripted_engine(*(f"docker.io/{name}" for name in ENGINES)))


@pytest.fixture(scope="session")
def operator_image(machine: None) -> Path:
    """The operator's image of this checkout."""
    return operator_archive(f"{OPERATOR}:this", ARCHIVE.with_name("e2e.tar"))


@pytest.fixture(scope="session")
def environment(machine: None) -> Environment:
    """The real engine, which `make engine` installs."""
    found = installed()
    assert found is not None, "the engine is not installed: `make engine` does that, once, 5.8 GB"
    return found


@pytest.fixture(scope="session")
def cluster(
    engine_images: Path,
    operator_image: Path,
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Two nodes of eight GPUs that do not exist."""
    logs = tmp_path_factory.mktemp("logs")
    with Cluster(kwok=False, real_nodes=True, log_directory=logs) as running:
        for _ in range(2):
            running.add_real_node(
                [engine_images, operator_image], mounts={ENGINE_AT: environment.directory}
            )
        yield running


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Installation:
    """Two replicas, in a namespace that enforces the restricted Pod Security Standard."""
    found = Installation(cluster)
    create_namespace(cluster, found.namespace, RESTRICTED)
    found.put("this", **RELEASE)
    return found


@pytest.fixture
def world(cluster: Cluster, installation: Installation) -> Iterator[World]:
    """A namespace for a test's servers, under the restricted Pod Security Standard."""
    with place(cluster, next(NAMES)) as found:
        yield found
