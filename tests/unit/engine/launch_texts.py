"""What engines write that do not get as far as their model, and what nodes say of their pods."""

from __future__ import annotations

from vllm_operator.engine.failures import Seen

FAILED_CORE = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
)
NUM_CUDA = (
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
    "before calling NumCudaDevices() that might have already set an error? "
)
NCCL = (
    "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
    "NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version "
    "2.27.3\nncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
)


def killed_by(signal: int) -> str:
    return f"{FAILED_CORE}{{'EngineCore_DP0': -{signal}}}"


def pool(host: str) -> str:
    return (
        f"requests.exceptions.ConnectionError: HTTPSConnectionPool(host='{host}', port=443): Max "
        "retries exceeded with url: /x (Caused by NewConnectionError('<urllib3.connection."
        "HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 101]'))"
    )


# The end of a log, the condition's reason, and a part of its message.
LAUNCH: tuple[tuple[str, str, str], ...] = (
    (f"{NUM_CUDA}Error 802: system not yet initialized", "GPUFailed", "nvidia-fabricmanager"),
    (f"{NCCL}Cuda failure 802 'system not yet initialized'", "GPUFailed", "nvidia-fabricmanager"),
    (
        f"{NUM_CUDA}Error 803: system has unsupported display driver / cuda driver combination",
        "GPUFailed",
        "set LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib in spec.engine.env",
    ),
    (
        f"{NUM_CUDA}Error 804: forward compatibility was attempted on non supported HW",
        "DriverTooOld",
        "update the driver",
    ),
    (
        "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported "
        "toolchain.",
        "DriverTooOld",
        "update the driver",
    ),
    (
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "GPUFailed",
        "another process has the GPU for itself",
    ),
    (
        "RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the "
        "MPS server",
        "GPUFailed",
        "shared by MPS",
    ),
    (
        "torch.AcceleratorError: CUDA error: no CUDA-capable device is detected",
        "GPUFailed",
        "the container sees no GPU",
    ),
    (
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "GPUFailed",
        "the container sees no GPU",
    ),
    (
        "RuntimeError: No HIP GPUs are available",
        "GPUFailed",
        "of /dev/kfd on the node (render, by its number) in "
        "spec.pod.securityContext.supplementalGroups",
    ),
    (
        "torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the "
        "execution",
        "GPUFailed",
        "uncorrectable NVLink error",
    ),
    (
        "torch.AcceleratorError: HIP error: an illegal memory access was encountered",
        "GPUFailed",
        "the GPU reports: an illegal memory access",
    ),
    ("RuntimeError: CUDA error: invalid device ordinal", "TooFewGPUs", "fewer GPUs"),
    ("RuntimeError: HIP error: invalid device function", "GPUUnsupported", "no code for this GPU"),
    (
        "RuntimeError: `ptxas` failed with error code 255: \nptxas fatal   : Value 'sm_121a' is "
        "not defined for option 'gpu-name'",
        "GPUUnsupported",
        "no code for this GPU",
    ),
    (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GPUOutOfMemory",
        "lower spec.engine.gpuMemoryUtilization",
    ),
    (f"{NCCL}Cuda failure 2 'out of memory'", "GPUOutOfMemory", "the GPU is out of memory"),
    (
        f"{NCCL}Cuda failure 217 'peer access is not supported between these two devices'",
        "CommunicationFailed",
        "set NCCL_P2P_DISABLE=1 in spec.engine.env",
    ),
    (
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "CommunicationFailed",
        "unhandled system error); set NCCL_DEBUG=INFO",
    ),
    (
        "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while "
        "trying to connect to (qwen-0.qwen.ai, 29500).",
        "CommunicationFailed",
        "do not find each other over the network",
    ),
    (
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 "
        "clients joined.",
        "CommunicationFailed",
        "kubectl get networkpolicies",
    ),
    (
        "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/"
        "pair.cc:144] no error",
        "CommunicationFailed",
        "GLOO_SOCKET_IFNAME",
    ),
    (
        "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:84] "
        "ifa != nullptr. Unable to find address for: eth0",
        "CommunicationFailed",
        "no network interface of the name",
    ),
    (killed_by(9), "OOMKilled", "spec.pod.resources.requests.memory"),
    (killed_by(7), "SharedMemoryTooSmall", "SIGBUS"),
    (killed_by(4), "ImageUnusable", "lacks an instruction"),
    (
        "ModuleNotFoundError: No module named 'mamba_ssm'",
        "ImageUnusable",
        "no Python package mamba_ssm,",
    ),
    (
        "ImportError: Please install vllm[audio] for audio support",
        "ImageUnusable",
        "no Python package vllm[audio],",
    ),
    (
        "ImportError: FlashAttention on XPU needs vllm_xpu_kernels to be installed. Please install "
        "vllm_xpu_kernels first.",
        "ImageUnusable",
        "no Python package vllm_xpu_kernels,",
    ),
    (
        "ImportError: This modeling file requires the following packages that were not found in "
        "your environment: flash_attn. Run `pip install flash_attn`",
        "ImageUnusable",
        "no Python package flash_attn,",
    ),
    (
        "ImportError: /usr/lib/python3/dist-packages/vllm/_C.abi3.so: undefined symbol: _ZN3c10",
        "ImageUnusable",
        "do not fit each other: /usr/lib/python3/dist-packages/vllm/_C.abi3.so;",
    ),
    (
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable",
        "ImageUnusable",
        "no compiler",
    ),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
        "ImageUnusable",
        "no compiler",
    ),
    (
        "OSError: /models/qwen does not appear to have a file named config.json. Checkout "
        "'https://huggingface.co//models/qwen/tree/main' for available files.",
        "ModelNotFound",
        "there is no config.json in /models/qwen",
    ),
    (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/qwen'. Use `repo_type` argument if needed.",
        "ModelNotFound",
        "there is no folder /models/qwen in the pod",
    ),
    (
        "OSError: Can't load tokenizer for '/models/qwen'. If you were trying to load it from "
        "'https://huggingface.co/models', make sure",
        "ModelDamaged",
        "no tokenizer in /models/qwen",
    ),
    (
        "ValueError: There is no module or parameter named 'model.embed' in Qwen3ForCausalLM",
        "ModelUnsupported",
        "the checkpoint has model.embed, which Qwen3ForCausalLM of vLLM 0.30.0 does not know",
    ),
    (
        "ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}",
        "ModelUnsupported",
        "{'lm_head.weight'}",
    ),
    (
        "ValueError: Loading lora sql failed: No adapter found for /adapters/sql",
        "ModelNotFound",
        "there is no adapter in /adapters/sql; correct its path in spec.engine.lora.adapters",
    ),
    (
        "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
        "ArgumentRefused",
        "set spec.engine.lora.maxRank to at least 64",
    ),
    (
        "ValueError: PhiMoEForCausalLM does not support LoRA yet.",
        "EngineRefused",
        "remove spec.engine.lora",
    ),
    (
        "KeyError: 'invalid tool call parser: qwen3 (chose from { hermes,mistral })'",
        "ArgumentRefused",
        "no parser of tool calls named qwen3, but hermes,mistral",
    ),
    (
        "KeyError: 'invalid reasoning parser: qwen (chose from { deepseek_r1,qwen3 })'",
        "ArgumentRefused",
        "correct spec.engine.reasoningParser",
    ),
    (
        "ValueError: The supplied chat template string (/etc/chat/qwen.jinja) appears path-like, "
        "but doesn't exist! Tried: /etc/chat/qwen.jinja and /usr/lib",
        "ArgumentRefused",
        "there is no file /etc/chat/qwen.jinja in the pod, which --chat-template names",
    ),
    (
        "RuntimeError: Could not load logging config. File does not exist: /etc/vllm/log.json",
        "ArgumentRefused",
        "there is no file /etc/vllm/log.json in the pod; mount it",
    ),
    (
        "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig("
        "head_size=128, kv_cache_dtype=fp8). Reasons: {FLASH_ATTN: [kv_cache_dtype not "
        "supported]}.",
        "EngineRefused",
        "FLASH_ATTN: [kv_cache_dtype not supported]; change what the reasons name",
    ),
    (
        "ValueError: Selected backend AttentionBackendEnum.TRITON_ATTN is not valid for this "
        "configuration. Reason: ['kv_cache_dtype not supported']",
        "EngineRefused",
        "the attention kernel TRITON_ATTN does not take this: 'kv_cache_dtype not supported'",
    ),
    (
        "ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are "
        "('fp8e4b15', 'fp8e5')",
        "QuantizationUnsupported",
        "no 8-bit numbers of the kind fp8e4nv",
    ),
    (
        "ValueError: Weight input_size_per_partition = 1728 is not divisible by min_thread_k = "
        "128. Consider reducing tensor_parallel_size or running with --quantization gptq.",
        "IllegalParallelism",
        "1728, is no multiple of the 128",
    ),
    (
        "ValueError: The input size is not aligned with the quantized weight shape. This can be "
        "caused by too large tensor parallel size.",
        "IllegalParallelism",
        "lower spec.parallelism.tensor",
    ),
    (
        "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download "
        "or load vocab file",
        "HubUnreachable",
        "TIKTOKEN_ENCODINGS_BASE in spec.engine.env",
    ),
    (pool("openaipublic.blob.core.windows.net"), "HubUnreachable", "TIKTOKEN_ENCODINGS_BASE"),
    (
        pool("edge.urm.nvidia.com"),
        "HubUnreachable",
        "the pod does not reach edge.urm.nvidia.com; open the network to it",
    ),
    (
        "OSError: [Errno 28] No space left on device: '/tmp/torchinductor_65532'",
        "VolumeFull",
        "the node's disk, on which /tmp/torchinductor_65532 lies",
    ),
    (
        "PermissionError: [Errno 13] Permission denied: '/root/.cache'",
        "PermissionDenied",
        "/root/.cache, which is in the image",
    ),
    (
        "PermissionError: [Errno 13] Permission denied: '/dev/kfd'",
        "PermissionDenied",
        "spec.pod.securityContext.supplementalGroups",
    ),
    ("RuntimeError: can't start new thread", "NodeLimitReached", "podPidsLimit"),
    (
        "OpenBLAS blas_thread_init: pthread_create failed for thread 63 of 64: Resource "
        "temporarily unavailable",
        "NodeLimitReached",
        "podPidsLimit",
    ),
    ("OSError: [Errno 24] Too many open files: '/cache/x'", "NodeLimitReached", "LimitNOFILE"),
)

PULL = 'ErrImagePull: failed to pull and unpack image "{0}": failed to resolve reference "{0}": {1}'
ADMITTED = "Pod was rejected: Node didn't have enough resource: {0}, requested: 1, used: 8"

# Where a text is seen, the text, the condition's reason, and a part of its message.
NODES: tuple[tuple[Seen, str, str, str], ...] = (
    (
        "waiting",
        "CreateContainerConfigError: container has runAsNonRoot and image will run as root (pod: "
        '"qwen_ai(1)", container: engine)',
        "ContainerNotStarted",
        "the image will run as root; set spec.pod.securityContext.runAsUser",
    ),
    (
        "waiting",
        "CreateContainerConfigError: container has runAsNonRoot and image has non-numeric user "
        '(vllm), cannot verify user is non-root (pod: "qwen_ai(1)", container: engine)',
        "ContainerNotStarted",
        "the image has non-numeric user (vllm); set spec.pod.securityContext.runAsUser",
    ),
    (
        "waiting",
        PULL.format("reg:5000/vllm:1", "http: server gave HTTP response to HTTPS client"),
        "ImagePullFailed",
        "the registry speaks no TLS",
    ),
    (
        "waiting",
        'ErrImagePull: rpc error: code = Unknown desc = short-name "vllm-openai:1" did not resolve '
        'to an alias and no unqualified-search registries are defined in "/etc/containers/x"',
        "ImagePullFailed",
        "vllm-openai:1 names no registry",
    ),
    ("waiting", "ErrImagePull: pull QPS exceeded", "ImagePullFailed", "waits for its turn"),
    (
        "waiting",
        "SignatureValidationFailed: Source image rejected: A signature was required, but no "
        "signature exists",
        "ImagePullFailed",
        "only signed images: A signature was required",
    ),
    (
        "waiting",
        'InvalidImageName: Failed to apply default image tag "vllm/VLLM:1": couldn\'t parse image '
        'name "vllm/VLLM:1": invalid reference format: repository name must be lowercase',
        "ImagePullFailed",
        "the image's name is none: invalid reference format: repository name",
    ),
    ("termination", "exit code 132, reason Error", "ImageUnusable", "SIGILL"),
    (
        "failed",
        f"OutOfnvidia.com/gpu: {ADMITTED.format('nvidia.com/gpu')}",
        "PodRejected",
        "the node did not keep a pod: OutOfnvidia.com/gpu: Pod was rejected",
    ),
    (
        "failed",
        f"OutOfephemeral-storage: {ADMITTED.format('ephemeral-storage')}",
        "PodRejected",
        "the node did not keep a pod: OutOfephemeral-storage",
    ),
    (
        "failed",
        "DeadlineExceeded: Pod was active on the node longer than the specified deadline",
        "PodRejected",
        "the node ended a pod: DeadlineExceeded: Pod was active",
    ),
    (
        "failed",
        'SysctlForbidden: forbidden sysctl: "net.core.somaxconn" not allowlisted',
        "PodRejected",
        'the node ended a pod: SysctlForbidden: forbidden sysctl: "net.core.somaxconn"',
    ),
    (
        "deployment",
        'Pod "qwen-1" is invalid: spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid '
        'value: "1": must be equal to requests',
        "PodRefused",
        "also after webhooks have changed it: spec.containers[0]",
    ),
    (
        "deployment",
        'pods "qwen-1" is forbidden: pod node label selector conflicts with its namespace node '
        "label selector",
        "PodRefused",
        "take back what differs from it in spec.pod.nodeSelector",
    ),
    (
        "deployment",
        'pods "qwen-1" is forbidden: pod tolerations (possibly merged with namespace default '
        "tolerations) conflict with its namespace whitelist",
        "PodRefused",
        "take back spec.pod.tolerations",
    ),
    (
        "deployment",
        'pods is forbidden: User "system:serviceaccount:kube-system:replicaset-controller" cannot '
        'create resource "pods" in API group "" in the namespace "ai"',
        "PodRefused",
        "controller system:serviceaccount:kube-system:replicaset-controller may not make pods",
    ),
)
