"""How a running cluster is asked: kubectl, requests to its API server, its audit log."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localcluster.controlplane import ControlPlane
from localcluster.errors import KubectlError, LocalClusterError
from localcluster.waiting import wait_until


class Access:
    """A control plane, once it runs, as its administrator sees it."""

    def __init__(self) -> None:
        self._binaries: dict[str, Path] = {}
        self._running: ControlPlane | None = None

    @property
    def _plane(self) -> ControlPlane:
        if self._running is None:
            raise LocalClusterError("the cluster is not started")
        return self._running

    # What it is

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._plane.layout.server

    @property
    def directory(self) -> Path:
        """The cluster's temporary directory, removed when the cluster stops."""
        return self._plane.layout.directory

    @property
    def environment(self) -> dict[str, str]:
        """This process's variables, without a proxy between it and the cluster."""
        return dict(self._plane.environment)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._plane.kubeconfig("admin")

    @property
    def certificate_authority(self) -> Path:
        """The PEM file that vouches for the API server."""
        return self._plane.layout.certificates.authority

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by component, and that of the supervisor above them."""
        processes = self._plane.processes
        return {"supervisor": processes.supervisor_pid, **processes.pids}

    def log(self, component: str) -> Path:
        """The log file of a component."""
        return self._plane.processes.log(component)

    def keep_logs(self) -> Path:
        """Copies the logs to where they outlive the cluster; returns that directory."""
        return self._plane.keep_logs()

    # Requests

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run gives it
        kubeconfig: Path | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl, as administrator unless told otherwise.

        Raises KubectlError with its standard error if it fails and `check` is set, and
        subprocess.TimeoutExpired.
        """
        # HOME: neither the user's settings (kuberc) nor their discovery cache come into it.
        environment = {**self.environment, "HOME": str(self.directory)}
        command = [str(self._binaries["kubectl"]), f"--kubeconfig={kubeconfig or self.kubeconfig}"]
        result = subprocess.run(
            [*command, *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
        if check and result.returncode != 0:
            message = f"kubectl {' '.join(arguments)}: {result.stderr.strip()}"
            message += self._plane.deaths()
            raise KubectlError(message, result.returncode, result.stdout, result.stderr)
        return result

    def get(
        self,
        resource: str,
        name: str | None = None,
        namespace: str | None = None,
        selector: str | None = None,
    ) -> dict[str, Any]:
        """`kubectl get -o json`: an object, or a list without `name`; namespace "*" means all."""
        arguments = ["get", resource, "-o", "json"]
        if name is not None:
            arguments.append(name)
        if namespace == "*":
            arguments.append("--all-namespaces")
        elif namespace is not None:
            arguments += ["--namespace", namespace]
        if selector is not None:
            arguments += ["--selector", selector]
        answer: dict[str, Any] = json.loads(self.kubectl(*arguments).stdout)
        return answer

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        timeout: float = 30,
    ) -> dict[str, Any]:
        """One request as administrator, see ApiClient.request; far faster than kubectl."""
        return self._plane.client.request(method, path, body, content_type, timeout)

    def service_account_kubeconfig(
        self, namespace: str, name: str, path: Path, seconds: int = 86400
    ) -> Path:
        """Writes a kubeconfig with a token of that account, valid for so many seconds."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        where = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(name)}/token"
        token: str = self.api("POST", where, request)["status"]["token"]
        self._plane.write_kubeconfig(path, name, token, namespace)
        return path

    def audit_events(self) -> Iterator[dict[str, Any]]:
        """The audit events so far, oldest first.

        A request's event is written when it ends, which may be a moment after its answer arrived.
        """
        log = self._plane.layout.audit_log
        if log is None:
            raise LocalClusterError("the cluster was started without audit=True")
        if not log.exists():
            return
        with log.open() as lines:
            for line in lines:
                if line.endswith("\n"):  # the last one may be half written
                    yield json.loads(line)

    def wait_for_definitions(self, timeout: float = 30) -> None:
        """Waits until every CustomResourceDefinition is served.

        Not by `kubectl wait`: it fails on a definition that has no conditions yet.
        """

        def established() -> bool:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            return all(
                any(
                    condition["type"] == "Established" and condition["status"] == "True"
                    for condition in definition.get("status", {}).get("conditions") or []
                )
                for definition in self.api("GET", path)["items"]
            )

        wait_until(established, "the custom resources to be served", timeout)
