"""What a pod refers to, read through the API: variables and volumes."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.agent.api import Api, Object
from localcluster.client import ApiError


class Missing(Exception):
    """Something that a pod refers to is not there (yet); the message is a kubelet's."""


class Inputs:
    """Of one pod. Secrets and ConfigMaps are read each time, as a started container sees them."""

    def __init__(self, api: Api, pod: Object, node: str, address: str) -> None:
        self._api = api
        self._pod = pod
        self._node = node
        self._address = address
        self.namespace: str = pod["metadata"]["namespace"]

    async def _get(self, resource: str, name: str) -> Object:
        try:
            path = f"/api/v1/namespaces/{self.namespace}/{resource}/{name}"
            return await self._api.request("GET", path)
        except ApiError as error:
            raise Missing(error.message) from error

    async def _data(self, resource: str, name: str) -> dict[str, bytes]:
        found = await self._get(resource, name)
        encoded = dict(found.get("binaryData") or {})
        plain = found.get("data") or {}
        if resource == "secrets":
            encoded, plain = plain, {}
        decoded = {key: base64.b64decode(value) for key, value in encoded.items()}
        return decoded | {key: value.encode() for key, value in plain.items()}

    async def variable(self, source: Mapping[str, Any], container: Object) -> str | None:
        """What a `valueFrom` comes to; None where it is optional and not there."""
        for kind, resource, noun in (
            ("secretKeyRef", "secrets", "Secret"),
            ("configMapKeyRef", "configmaps", "ConfigMap"),
        ):
            if kind in source:
                reference = source[kind]
                try:
                    data = await self._data(resource, reference["name"])
                    if reference["key"] not in data:
                        raise Missing(
                            f"couldn't find key {reference['key']} in {noun} "
                            f"{self.namespace}/{reference['name']}"
                        )
                except Missing:
                    if reference.get("optional"):
                        return None
                    raise
                return data[reference["key"]].decode()
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        resource = source["resourceFieldRef"]["resource"]
        kind, _, name = resource.partition(".")
        found: Any = (container.get("resources") or {}).get(kind, {}).get(name, "0")
        return str(found)

    def _field(self, path: str) -> str:
        metadata = self._pod["metadata"]
        simple = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": self._node,
            "spec.serviceAccountName": self._pod["spec"].get("serviceAccountName", "default"),
            "status.hostIP": "127.0.0.1",
            "status.podIP": self._address,
            "status.podIPs": self._address,
        }
        if path in simple:
            return str(simple[path])
        member, _, key = path.removeprefix("metadata.").partition("['")
        return str((metadata.get(member) or {}).get(key.removesuffix("']"), ""))

    async def bulk(self, sources: list[Object]) -> dict[str, str]:
        """The variables of a container's `envFrom`."""
        found: dict[str, str] = {}
        for source in sources:
            kind = "secretRef" if "secretRef" in source else "configMapRef"
            resource = "secrets" if kind == "secretRef" else "configmaps"
            try:
                data = await self._data(resource, source[kind]["name"])
            except Missing:
                if source[kind].get("optional"):
                    continue
                raise
            prefix = source.get("prefix", "")
            found |= {prefix + key: value.decode() for key, value in data.items()}
        return found

    async def volume(self, volume: Object, own: Path, shared: Path) -> Path:
        """The directory that a volume of the pod is; made where it is the pod's own."""
        if "persistentVolumeClaim" in volume:
            claim = await self._get(
                "persistentvolumeclaims", volume["persistentVolumeClaim"]["claimName"]
            )
            return await self._persistent(claim["spec"]["volumeName"], shared)
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        if "configMap" in volume:
            source = volume["configMap"]
            await self._files(own, "configmaps", source["name"], source)
        elif "secret" in volume:
            source = volume["secret"]
            await self._files(own, "secrets", source["secretName"], source)
        elif "projected" in volume:
            await self._projected(own, volume["projected"]["sources"])
        elif "downwardAPI" in volume:
            self._fields(own, volume["downwardAPI"]["items"])
        elif "emptyDir" not in volume:
            kind = next(key for key in volume if key != "name")
            raise Missing(f"volumes of type {kind} are not known to the local cluster's agent")
        return _made(own)

    async def _persistent(self, name: str, shared: Path) -> Path:
        """The directory that a PersistentVolume names where this machine has it, else one of ours.

        The claim is bound: the scheduler binds no pod before.
        """
        spec = (await self._api.request("GET", f"/api/v1/persistentvolumes/{name}"))["spec"]
        named = (spec.get("hostPath") or spec.get("local") or {}).get("path")
        return _existing(named) or _made(shared / name)

    async def _projected(self, own: Path, sources: list[Object]) -> None:
        """Tokens of service accounts are left out: nothing here verifies them."""
        for source in sources:
            for kind, resource in (("configMap", "configmaps"), ("secret", "secrets")):
                if kind in source:
                    await self._files(own, resource, source[kind]["name"], source[kind])
            if "downwardAPI" in source:
                self._fields(own, source["downwardAPI"]["items"])

    def _fields(self, own: Path, items: list[Object]) -> None:
        for item in items:
            _write(own / item["path"], self._field(item["fieldRef"]["fieldPath"]).encode())

    async def _files(self, own: Path, resource: str, name: str, source: Object) -> None:
        try:
            data = await self._data(resource, name)
        except Missing:
            if source.get("optional"):
                return
            raise
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            if item["key"] not in data:
                raise Missing(f"references non-existent {resource} key: {item['key']}")
            _write(own / item["path"], data[item["key"]])


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _existing(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).is_dir() else None


def _write(path: Path, content: bytes) -> None:
    _made(path.parent)
    path.touch(mode=0o600)
    path.write_bytes(content)


def _host_path(source: Object) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        _made(path)
    elif kind and not path.exists():
        raise Missing(f"hostPath type check failed: {path} is not a {kind.lower()}")
    return path
