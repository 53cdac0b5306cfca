"""What kubelets, controllers and network plugins write into a pod's events."""

from __future__ import annotations

SANDBOX = f"{'ab12' * 16}"


def setup_failed(volume: str, why: str) -> str:
    return f'MountVolume.SetUp failed for volume "{volume}" : {why}'


# The event's reason and note, what they are told as, and the condition's reason.
EVENTS: tuple[tuple[str, str, str, str], ...] = (
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
        "FailedBinding",
        'ephemeral volume cache: persistentvolumeclaims "qwen-1-cache" is forbidden: exceeded '
        "quota: disks, requested: requests.storage=17Gi, used: requests.storage=0, limited: "
        "requests.storage=1Gi",
        "ResourceQuota disks has no room for the claim of the pod's volume cache: requested "
        "requests.storage=17Gi",
        "QuotaExceeded",
    ),
    (
        "FailedBinding",
        'ephemeral volume cache: PVC default/qwen-1-cache was not created for pod "qwen-1"',
        "the claim of the pod's volume cache cannot be made: PVC default/qwen-1-cache was not",
        "VolumeClaimMissing",
    ),
    (
        "FailedPrepareDynamicResources",
        "Failed to prepare dynamic resources: prepare: driver gpu.nvidia.com not registered",
        "driver gpu.nvidia.com not registered",
        "ContainerNotStarted",
    ),
    (
        "FailedMount",
        "Unable to attach or mount volumes: unmounted volumes=[authority], unattached volumes=[], "
        "failed to process volumes=[]: context deadline exceeded",
        "the node has not mounted the pod's volumes in time",
        "VolumeNotMounted",
    ),
    (
        "FailedAttachVolume",
        'AttachVolume.Attach failed for volume "pvc-1" : CSINode gpu-1 does not contain driver '
        "ebs.csi.aws.com",
        "does not run the CSI driver ebs.csi.aws.com, which volume pvc-1 needs",
        "VolumeNotMounted",
    ),
    (
        "FailedAttachVolume",
        'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = ResourceExhausted desc '
        '= Could not attach volume "vol-1" to node "i-1": attachment limit exceeded',
        "the node has as many as it may: ResourceExhausted desc = Could not attach",
        "VolumeNotMounted",
    ),
    (
        "FailedMount",
        setup_failed(
            "nfs",
            "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs "
            "nas:/m /var/lib/kubelet/pods/1\nOutput: mount: /var/lib/kubelet/pods/1: bad option; "
            "for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper "
            "program.",
        ),
        "the node has no program that mounts volume nfs; install it there (nfs-common",
        "VolumeNotMounted",
    ),
    (
        "FailedMount",
        setup_failed(
            "bucket",
            'rpc error: code = PermissionDenied desc = failed to get GCS bucket "w": googleapi: '
            "Error 403: caller does not have storage.objects.list access",
        ),
        "give the account of spec.pod.serviceAccountName the right to read it",
        "VolumeNotMounted",
    ),
    (
        "FailedCreatePodSandBox",
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create "
        "containerd task: failed to create shim task: OCI runtime create failed: unable to "
        'retrieve OCI runtime error: exec: "nvidia-container-runtime": executable file not found '
        "in $PATH: unknown",
        "does not know the handler",
        "SandboxFailed",
    ),
)
