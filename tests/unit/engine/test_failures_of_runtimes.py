"""What Kubernetes and container runtimes write: a cause stands last, after names of any length."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vllm_operator.engine.failures import Failure, Seen, ended, known_failure
from vllm_operator.engine.versions import NEWEST_KNOWN

SHORT = "ghcr.io/team/vllm:v0.32.0"
LONG = f"registry.example.com/{'a-team/' * 30}vllm-openai:v0.32.0-{'x' * 100}"
REFUSED = "dial tcp 127.0.0.1:443: connect: connection refused"
UNKNOWN_HOST = "dial tcp: lookup registry.example.com on 10.96.0.10:53: no such host"
RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc "
    "create failed: unable to start container process: error during container init: "
)
NO_VLLM = f'{RUNC}exec: "vllm": executable file not found in $PATH'
NO_DRIVER = (
    f"{RUNC}error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as "
    "'legacy'\nnvidia-container-cli: initialization error: load library failed: "
    "libnvidia-ml.so.1: cannot open shared object file: no such file or directory: unknown"
)
OLD_DRIVER = (
    f"{RUNC}error running prestart hook #0: exit status 1, stdout: , stderr: "
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update"
)
MOUNT = f"/var/lib/kubelet/pods/{'0' * 36}/volume-subpaths/models/engine/{'deep/' * 40}0"


def asked_of(image: str) -> str:
    registry, _, rest = image.partition("/")
    name, _, tag = rest.rpartition(":")
    return f'failed to do request: Head "https://{registry}/v2/{name}/manifests/{tag}"'


def containerd_2(image: str, cause: str) -> str:
    """containerd 2.4.2: internal/cri/server/images/image_pull.go, core/transfer/local/pull.go."""
    return (
        f'rpc error: code = Unavailable desc = failed to pull and unpack image "{image}": failed '
        f"to resolve image: {asked_of(image)}: {cause}"
    )


def containerd_1(image: str, cause: str) -> str:
    """containerd 1.6, and 2.4.2 with use_local_image_pull: client/pull.go."""
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        f'resolve reference "{image}": {asked_of(image)}: {cause}'
    )


def crio(image: str, cause: str) -> str:
    """CRI-O 1.33 and newer tries an image, then an artifact."""
    registry, _, _ = image.partition("/")
    asked = f'pinging container registry {registry}: Get "https://{registry}/v2/": {cause}'
    return (
        f"unable to pull image or OCI artifact: pull image err: initializing source docker://"
        f"{image}: {asked}; artifact err: get manifest: build image source: {asked}"
    )


def seen(where: Seen, text: str) -> Failure:
    failure = known_failure(where, text, NEWEST_KNOWN)
    assert failure is not None
    return failure


@pytest.mark.parametrize("cause", [REFUSED, UNKNOWN_HOST], ids=["refused", "unknown host"])
@pytest.mark.parametrize("image", [SHORT, LONG], ids=["short name", "long name"])
@pytest.mark.parametrize("runtime", [containerd_2, containerd_1, crio])
def test_a_pull_that_failed_says_why_however_long_the_image_s_name(
    runtime: Callable[[str, str], str], image: str, cause: str
) -> None:
    told = runtime(image, cause)
    waits = f'ImagePullBackOff: Back-off pulling image "{image}": ErrImagePull: {told}'
    for text in (f"ErrImagePull: {told}", waits):
        failure = seen("waiting", text)
        assert failure.reason == "ImagePullFailed"
        assert f"{cause}; correct spec.engine.image, or make its registry" in failure.message
        assert len(failure.message) < 400


@pytest.mark.parametrize(
    ("cause", "field"),
    [
        ("401 Unauthorized", "spec.pod.imagePullSecrets"),
        ("403 Forbidden", "spec.pod.imagePullSecrets"),
        ("pull access denied, repository does not exist", "spec.pod.imagePullSecrets"),
        ("not found", "spec.engine.image"),
    ],
)
def test_a_registry_that_refuses_is_told_apart_however_long_the_image_s_name(
    cause: str, field: str
) -> None:
    for image in (SHORT, LONG):
        failure = seen("waiting", f"ErrImagePull: {containerd_1(image, cause)}")
        assert (failure.reason, failure.field) == ("ImagePullFailed", field)
        assert failure.means.startswith("the registry ")


def test_a_folder_that_the_node_may_not_write_is_no_refusal_of_the_registry() -> None:
    cause = "failed to extract layer: mkdir /var/lib/containerd/tmp: permission denied"
    text = f'ErrImagePull: failed to pull and unpack image "{SHORT}": {cause}'
    assert cause in seen("waiting", text).message


@pytest.mark.parametrize(
    ("text", "reason", "cause"),
    [
        (NO_VLLM, "ImageUnusable", 'exec: "vllm": executable file not found in $PATH'),
        (OLD_DRIVER, "DriverTooOld", "cuda>=12.9"),
        (NO_DRIVER, "ContainerNotStarted", "load library failed: libnvidia-ml.so.1"),
        (
            f'{RUNC}error mounting "{MOUNT}" to rootfs at "/models": not a directory',
            "ContainerNotStarted",
            "not a directory",
        ),
        (
            f"{RUNC}error running prestart hook #0: fork/exec /usr/bin/nvidia-ctk: no such file or "
            "directory",
            "ContainerNotStarted",
            "fork/exec /usr/bin/nvidia-ctk: no such file or directory",
        ),
    ],
    ids=["no vllm", "old driver", "no driver", "mount", "hook"],
)
def test_a_start_that_failed_says_the_same_whether_its_container_ended_or_waits(
    text: str, reason: str, cause: str
) -> None:
    failures = [
        seen("termination", ended(128, "StartError", text)),
        seen("waiting", f"RunContainerError: {text}"),
    ]
    assert failures[0] == failures[1]
    assert failures[0].reason == reason
    assert cause in failures[0].message


def test_a_start_that_failed_without_a_word_is_known_all_the_same() -> None:
    failure = seen("termination", ended(128, "StartError", ""))
    assert failure.reason == "ContainerNotStarted"
    assert "cannot start it: StartError; " in failure.message


def test_a_container_that_cannot_be_created_says_why_after_a_long_name() -> None:
    text = f'CreateContainerError: failed to mount image volume "{LONG}": input/output error'
    assert "cannot be created: input/output error; " in seen("waiting", text).message


def test_a_webhook_s_refusal_of_several_lines_is_told_with_its_reason() -> None:
    text = (
        'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource '
        "Pod/default/qwen was blocked due to the following policies \n\nlimits:\n  cpu: "
        "'validation error: CPU limits are required'"
    )
    assert "CPU limits are required" in seen("deployment", text).message
