"""People with some rights and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .world import World

GROUP: Final = "rbac.authorization.k8s.io"
ROOT: Final = f"/apis/{GROUP}/v1"


def user(
    world: World,
    folder: Path,
    rules: Sequence[Any],
    everywhere: Sequence[Any] = (),
    elsewhere: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """The kubeconfig of somebody with ``rules`` in the namespace, ``everywhere`` in all, and
    ``elsewhere`` in others."""
    namespace, cluster = world.namespace, world.cluster
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    cluster.api("POST", accounts, {"metadata": {"name": "somebody"}})
    subjects = [{"kind": "ServiceAccount", "name": "somebody", "namespace": namespace}]
    scopes = [(namespace, rules), (None, everywhere), *(elsewhere or {}).items()]
    for number, (space, allowed) in enumerate(scopes):
        if not allowed:
            continue
        kind = "Role" if space else "ClusterRole"
        where = f"{ROOT}/namespaces/{space}" if space else ROOT
        name = {"name": f"some-{namespace}-{number}"}
        body = {"metadata": name, "rules": list(allowed)}
        cluster.api("POST", f"{where}/{kind.lower()}s", body)
        role = {"apiGroup": GROUP, "kind": kind, **name}
        binding = {"metadata": name, "roleRef": role, "subjects": subjects}
        cluster.api("POST", f"{where}/{kind.lower()}bindings", binding)
    return cluster.service_account_kubeconfig(namespace, "somebody", folder / "somebody")


def is_restricted(world: World, folder: Path, manifest: str) -> bool:
    """Whether the API server takes a manifest without a word of the restricted standard."""
    path = folder / "manifest.yaml"
    path.write_text(manifest)
    label = "pod-security.kubernetes.io/warn=restricted"
    world.cluster.kubectl("label", "namespace", world.namespace, label)
    where = ("--namespace", world.namespace, "--dry-run=server")
    applied = world.cluster.kubectl("apply", *where, "-f", str(path))
    return "created" in applied.stdout and "Warning" not in applied.stderr
