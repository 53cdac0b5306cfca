"""What the engine may not do on a machine of its own, word for word."""

from __future__ import annotations

import pytest

from unit.manifests.elsewhere.support import rendered, service, values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CapabilityBoundingSet", [""]),
        ("DynamicUser", ["yes"]),
        ("NoNewPrivileges", ["yes"]),
        ("PrivateTmp", ["yes"]),
        # Models may lie there, and nothing is written.
        ("ProtectHome", ["read-only"]),
        ("ProtectSystem", ["strict"]),
        ("Type", ["exec"]),
    ],
)
def test_a_unit_of_systemd_is_kept_to_its_own_folders(key: str, value: list[str]) -> None:
    assert values(rendered("systemd"), "Service", key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [("DropCapability", ["all"]), ("NoNewPrivileges", ["true"]), ("ReadOnly", ["true"])],
)
def test_a_container_of_podman_has_no_capability(key: str, value: list[str]) -> None:
    assert values(rendered("podman-quadlet"), "Container", key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cap_drop", ["ALL"]),
        ("security_opt", ["no-new-privileges:true"]),
        ("read_only", True),
        ("tmpfs", ["/tmp:exec,mode=1777"]),
        ("ports", ["127.0.0.1:8000:8000"]),
    ],
)
def test_a_service_of_compose_has_no_capability(key: str, value: object) -> None:
    assert service(rendered("compose"))[key] == value
