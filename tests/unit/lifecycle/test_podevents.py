"""When a pod's events are read, and which of them is told, in the words of kubelets and plugins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.observed import FAILED
from vllm_operator.engine.failures import Failure
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.lifecycle.podevents import next_read, reads_due, told

NOON = datetime.fromisoformat("2026-01-01T12:00:00Z")
WAITS = replace(
    FAILED, unprepared=True, started_at="2026-01-01T12:00:00Z", ending=None, waiting_reason=""
)
SANDBOX = f"{'ab12' * 16}"


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(reason: str, note: str = "", at: float = 0, **more: Any) -> dict[str, Any]:
    seen = after(at).isoformat()
    return {"reason": reason, "note": note, "deprecatedLastTimestamp": seen, **more}


def setup_failed(volume: str, why: str) -> str:
    return f'MountVolume.SetUp failed for volume "{volume}" : {why}'


NO_SECRET = event("FailedMount", setup_failed("authority", 'secret "company-ca" not found'))
NO_MAP = event("FailedMount", setup_failed("files", 'configmap "chat" not found'), at=5)
LATE = event(
    "FailedMount",
    "Unable to attach or mount volumes: unmounted volumes=[authority], unattached volumes=[], "
    "failed to process volumes=[]: context deadline exceeded",
    at=60,
)


def said(*events: dict[str, Any]) -> Failure | None:
    return told(events, NEWEST_KNOWN)


@pytest.mark.parametrize(
    ("seconds", "reads"),
    [(0, 0), (19, 0), (20, 1), (39, 1), (40, 2), (80, 3), (160, 4), (320, 5), (619, 5), (620, 6)],
)
def test_events_are_read_ever_more_seldom_and_at_last_every_five_minutes(
    seconds: float, reads: int
) -> None:
    assert reads_due(WAITS, after(seconds)) == reads


@pytest.mark.parametrize(("seconds", "left"), [(0, 20), (20, 20), (50, 30), (330, 290)])
def test_the_next_visit_is_made_when_the_next_read_is_due(seconds: float, left: float) -> None:
    assert next_read([WAITS], after(seconds)) == left


@pytest.mark.parametrize(
    "pod",
    [
        replace(WAITS, unprepared=False),
        replace(WAITS, deleting=True),
        replace(WAITS, started_at=None),
    ],
    ids=["prepared", "being deleted", "not yet its kubelet's"],
)
def test_no_events_are_read_of_a_pod_that_does_not_wait_for_its_node(pod: Any) -> None:
    assert reads_due(pod, after(600)) == 0
    assert next_read([pod], after(600)) is None


@pytest.mark.parametrize(
    ("reason", "note", "means", "condition"),
    [
        (
            "FailedMount",
            setup_failed("authority", 'secret "company-ca" not found'),
            "there is no Secret company-ca, which volume authority",
            "SecretMissing",
        ),
        (
            "FailedMount",
            setup_failed("all", '[secret "a" not found, configmap "b" not found]'),
            "there is no Secret a",
            "SecretMissing",
        ),
        (
            "FailedMount",
            setup_failed("authority", "references non-existent secret key: ca.crt"),
            "has no key ca.crt",
            "SecretMissing",
        ),
        (
            "FailedMount",
            setup_failed("files", 'configmap "chat" not found'),
            "there is no ConfigMap chat, which volume files",
            "ConfigMapMissing",
        ),
        (
            "FailedMount",
            setup_failed("files", "configmap references non-existent config key: chat.jinja"),
            "has no key chat.jinja",
            "ConfigMapMissing",
        ),
        (
            "FailedMount",
            setup_failed("models", "hostPath type check failed: /srv/m is not a directory"),
            "/srv/m is not a directory",
            "VolumeNotMounted",
        ),
        (
            "FailedMount",
            'MountVolume.MountDevice failed for volume "pvc-1" : kubernetes.io/csi: '
            "attacher.MountDevice failed to create newCsiDriverClient: driver name "
            "nfs.csi.k8s.io not found in the list of registered CSI drivers",
            "does not run the CSI driver nfs.csi.k8s.io, which volume pvc-1 needs",
            "VolumeNotMounted",
        ),
        (
            "FailedMount",
            setup_failed(
                "nfs",
                "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs "
                "nas:/models /var/lib/kubelet/pods/1/volumes/kubernetes.io~nfs/nfs\nOutput: "
                "mount.nfs: access denied by server while mounting nas:/models",
            ),
            "mount.nfs: access denied by server while mounting nas:/models",
            "VolumeNotMounted",
        ),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = Internal desc = '
            "Could not attach volume: UnauthorizedOperation",
            "volume pvc-1 cannot be attached to the node: ",
            "VolumeNotMounted",
        ),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one '
            "node and can't be attached to another",
            "volume pvc-1 is attached to another node",
            "VolumeInUse",
        ),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) qwen-7d-abc',
            "used by pod(s) qwen-7d-abc",
            "VolumeInUse",
        ),
        (
            "FailedMapVolume",
            'MapVolume.MapPodDevice failed for volume "pvc-1" : rpc error: code = Unknown',
            "the node cannot mount volume pvc-1",
            "VolumeNotMounted",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup "
            f'network for sandbox "{SANDBOX}": plugin type="calico" failed (add): error getting '
            "ClusterInformation: connection is unauthorized: Unauthorized",
            'plugin type="calico" failed (add)',
            "NetworkFailed",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create pod "
            f"network sandbox k8s_qwen_ai_1_0({SANDBOX}): error adding pod ai_qwen to CNI network "
            '"multus-cni-network": plugin type="multus-shim" failed (add): timed out',
            "error adding pod ai_qwen to CNI network",
            "NetworkFailed",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup "
            f'network for sandbox "{SANDBOX}": plugin type="aws-cni" failed (add): add cmd: '
            "failed to assign an IP address to container",
            "failed to assign an IP address to container",
            "NetworkFailed",
        ),
        (
            "NetworkNotReady",
            "network is not ready: container runtime network not ready: NetworkReady=false "
            "reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not "
            "initialized",
            "cni plugin not initialized",
            "NetworkFailed",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox "
            'runtime: no runtime for "nvidia" is configured',
            "does not know the handler",
            "SandboxFailed",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox "
            'image "registry.example/pause:3.10": failed to pull image: connection refused',
            "connection refused",
            "SandboxFailed",
        ),
        (
            "FailedPrepareDynamicResources",
            "Failed to prepare dynamic resources: prepare: driver gpu.nvidia.com not registered",
            "driver gpu.nvidia.com not registered",
            "ContainerNotStarted",
        ),
    ],
)
def test_an_event_is_told_by_its_cause_and_its_object(
    reason: str, note: str, means: str, condition: str
) -> None:
    failure = said(event(reason, note))
    assert failure is not None
    assert (failure.reason, failure.passes) == (condition, True)
    assert means in failure.means
    assert SANDBOX not in failure.means


def test_a_volume_that_is_late_gives_way_to_the_failure_that_says_why() -> None:
    failure = said(NO_SECRET, LATE)
    assert failure is not None
    assert failure.reason == "SecretMissing"


def test_a_volume_that_is_late_is_told_where_nothing_says_why() -> None:
    failure = said(LATE)
    assert failure is not None
    assert failure.reason == "VolumeNotMounted"


def test_what_was_mended_long_before_is_no_cause_of_today() -> None:
    failure = said(NO_SECRET, event("FailedMount", LATE["note"], at=900))
    assert failure is not None
    assert failure.reason == "VolumeNotMounted"


def test_of_two_failures_the_newer_one_is_told() -> None:
    failure = said(NO_SECRET, NO_MAP)
    assert failure is not None
    assert failure.reason == "ConfigMapMissing"


def test_a_pod_that_has_gone_on_to_its_image_is_past_what_failed_before() -> None:
    assert said(NO_SECRET, event("Pulling", "Pulling image", at=10)) is None


def test_a_volume_that_was_attached_since_is_no_longer_in_use_elsewhere() -> None:
    in_use = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) qwen-1'
    since = event("SuccessfulAttachVolume", at=30)
    assert said(event("FailedAttachVolume", in_use), since) is None


def test_what_is_no_failure_of_the_node_s_is_passed_over() -> None:
    assert said(event("FailedToRetrieveImagePullSecret", "Unable to retrieve some secrets")) is None


@pytest.mark.parametrize(
    "when",
    [
        {"eventTime": after(90).isoformat()},
        {"series": {"lastObservedTime": after(90).isoformat()}},
        {"metadata": {"creationTimestamp": after(90).isoformat()}},
    ],
    ids=["events.k8s.io", "a series", "only its making"],
)
def test_an_event_s_time_is_read_however_it_was_recorded(when: dict[str, Any]) -> None:
    recorded = {key: NO_MAP[key] for key in ("reason", "note")} | when
    failure = said(event("FailedMount", LATE["note"], at=60), event("Pulling", at=80), recorded)
    assert failure is not None
    assert failure.reason == "ConfigMapMissing"
