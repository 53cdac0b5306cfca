"""Files and command lines of the components, and the certificates between them."""

import base64
import json
import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from localcluster import certificates, components
from localcluster.components import Identity, Layout

DATA = Path(components.__file__).with_name("data")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = certificates.create(tmp_path / "certificates", ["localhost"], ["127.0.0.1"])
    return Layout(
        directory=tmp_path,
        etcd_port=1001,
        etcd_peer_port=1002,
        server_port=1003,
        certificates=made,
        token_file=tmp_path / "tokens.csv",
        audit_log=None,
    )


def test_a_token_line_names_the_groups_in_one_quoted_field() -> None:
    assert Identity("admin", "t", ("a", "b")).line() == 't,admin,admin,"a,b"'
    assert Identity("user", "t").line() == "t,user,user"


def test_every_component_listens_on_the_loopback_address_only(layout: Layout) -> None:
    commands = [
        components.etcd(Path("etcd"), layout),
        components.api_server(Path("kube-apiserver"), layout, DATA / "audit-policy.yaml"),
    ]
    listening = [
        argument
        for command in commands
        for argument in command
        if argument.startswith(("--listen-", "--bind-address"))
    ]
    assert len(listening) == 3
    assert all("127.0.0.1" in argument for argument in listening)
    # The others do not listen at all.
    path = Path("x")
    assert "--secure-port=0" in components.controller_manager(path, layout, path)
    assert "--secure-port=0" in components.scheduler(path, layout, path)


def test_requests_are_audited_only_where_that_is_asked_for(layout: Layout) -> None:
    policy = DATA / "audit-policy.yaml"
    without = components.api_server(Path("kube-apiserver"), layout, policy)
    assert not [argument for argument in without if argument.startswith("--audit")]
    audited = Layout(**{**vars(layout), "audit_log": Path("/log")})
    command = components.api_server(Path("kube-apiserver"), audited, policy)
    assert "--audit-log-path=/log" in command


def test_gates_are_opened_in_the_api_server_and_the_scheduler_where_that_is_asked_for(
    layout: Layout,
) -> None:
    path = Path("x")
    assert not any("gates" in one for one in components.scheduler(path, layout, path))
    opened = Layout(**{**vars(layout), "feature_gates": ("A", "B")})
    for command in (
        components.api_server(path, opened, path),
        components.scheduler(path, opened, path),
    ):
        assert "--feature-gates=A=true,B=true" in command


def test_a_kubeconfig_carries_all_that_it_needs() -> None:
    text = components.kubeconfig("https://127.0.0.1:1", b"pem", "user", "token", "space")
    content = json.loads(text)
    assert base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"]) == (
        b"pem"
    )
    assert content["contexts"][0]["context"]["namespace"] == "space"
    assert content["current-context"] == content["contexts"][0]["name"]
    assert content["users"][0]["user"] == {"token": "token"}


def test_the_certificates_satisfy_a_strict_client(layout: Layout) -> None:
    context = ssl.create_default_context(cafile=str(layout.certificates.authority))
    assert context.get_ca_certs()
    server = x509.load_pem_x509_certificate(layout.certificates.server_certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(layout.certificates.authority.read_bytes())
    server.verify_directly_issued_by(authority)
    for certificate in (server, authority):
        certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


@pytest.mark.parametrize("name", ["server_key", "service_account_key"])
def test_keys_are_readable_by_their_owner_only(layout: Layout, name: str) -> None:
    path: Path = getattr(layout.certificates, name)
    assert path.stat().st_mode & 0o077 == 0
    # The form that kube-apiserver takes for both halves of the signing key.
    assert path.read_text().startswith("-----BEGIN EC PRIVATE KEY-----")


def test_the_stages_cover_a_pods_life_and_a_nodes() -> None:
    documents = list(yaml.safe_load_all((DATA / "kwok.yaml").read_text()))
    stages = {one["metadata"]["name"] for one in documents if one["kind"] == "Stage"}
    assert stages == {
        "node-initialize",
        "node-heartbeat",
        "pod-create",
        "pod-ready",
        "pod-fail",
        "pod-delete",
    }


def test_prometheus_scrapes_the_pods_or_a_target_that_names_them_itself() -> None:
    def job(target: str | None) -> dict[str, object]:
        found = components.prometheus_configuration(Path("config"), 0.5, target)
        assert found["global"]["scrape_interval"] == "500ms"
        (one,) = found["scrape_configs"]
        return one

    assert job(None)["kubernetes_sd_configs"] == [{"role": "pod", "kubeconfig_file": "config"}]
    assert job("127.0.0.1:9") == {
        "job_name": "engines",
        "honor_labels": True,
        "static_configs": [{"targets": ["127.0.0.1:9"]}],
    }
