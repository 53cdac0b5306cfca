"""What clients of the Hub and file systems write where something is between a pod and its model."""

from __future__ import annotations

URL = "https://huggingface.co/a/b/resolve/main/config.json"
POOL = "HTTPSConnectionPool(host='huggingface.co', port=443)"
UNREACHED = (
    "\nhuggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate "
    "the file on the Hub and we cannot find the requested file in the local cache.\n"
    "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't "
    "find them in the cached files.\n"
)
"""What huggingface_hub and Transformers raise from whatever went wrong before."""


def retried(cause: str) -> str:
    """An error of requests, which huggingface_hub 0.x asks by."""
    said = f"Max retries exceeded with url: /a/b (Caused by {cause})"
    return f"requests.exceptions.ConnectionError: (MaxRetryError(\"{POOL}: {said}\"), '(ID: 1)')"


def no_connection(why: str) -> str:
    connection = "<urllib3.connection.HTTPSConnection object at 0x7f>"
    return f"NewConnectionError('{connection}: Failed to establish a new connection: {why}')"


SCOPE = (
    "huggingface_hub.errors.HfHubHTTPError: (Request ID: Root=1)\n\n403 Forbidden: Please enable "
    "access to public gated repositories in your fine-grained token settings to view this "
    "repository..\nCannot access content at: https://huggingface.co/a/b/resolve/main/config.json."
    "\nMake sure your token has the correct permissions."
)
MIRROR = (
    "huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: None.\nCannot access content at: "
    "https://hub.example/api/models/a/b.\nMake sure your token has the correct permissions.\n"
    "Forbidden: artifact is blocked"
)
NO_FILE = (
    '  File "/usr/lib/python3.12/ssl.py", line 707, in create_default_context\n'
    "    context.load_verify_locations(cafile, capath, cadata)\n"
    "FileNotFoundError: [Errno 2] No such file or directory"
)

# The end of a log, the condition's reason, and a part of its message.
NETWORK: tuple[tuple[str, str, str], ...] = (
    (SCOPE + UNREACHED, "ModelAccessDenied", "may not read gated repositories"),
    (MIRROR, "ModelAccessDenied", "https://hub.example/api/models/a/b answers 403: None; "),
    (
        f"httpx.HTTPStatusError: Client error '403 Forbidden' for url '{URL}'{UNREACHED}",
        "ModelAccessDenied",
        "the Hub answers 403",
    ),
    (
        "huggingface_hub.errors.HfHubHTTPError: Client error '401 Unauthorized' for url "
        f"'{URL}' (Request ID: 1)\nInvalid credentials in Authorization header",
        "ModelAccessDenied",
        "the Hub answers 401",
    ),
    (
        f"huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach {URL}: offline mode is "
        f"enabled. To disable it, please unset the `HF_HUB_OFFLINE` variable.{UNREACHED}",
        "ModelNotFound",
        "HF_HUB_OFFLINE forbids",
    ),
    (
        "We had to rate limit you, you hit the quota of 3000 api requests per 5 minutes period.",
        "HubRateLimited",
        "spec.model.tokenSecretRef",
    ),
    (
        f"HfHubHTTPError: Client error '429 Too Many Requests' for url '{URL}'{UNREACHED}",
        "HubRateLimited",
        "the Hub answers 429",
    ),
    (
        "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable "
        f"to get local issuer certificate (_ssl.c:1032){UNREACHED}",
        "HubCertificateUntrusted",
        "SSL_CERT_FILE",
    ),
    (
        "OSError: Could not find a suitable TLS CA certificate bundle, invalid path: /ca/ca.crt",
        "HubCertificateUntrusted",
        "there is no file /ca/ca.crt in the pod",
    ),
    (NO_FILE, "HubCertificateUntrusted", "no such file in the pod as SSL_CERT_FILE names"),
    (
        retried(
            "ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 407 Proxy "
            "Authentication Required'))"
        )
        + UNREACHED,
        "ProxyDenied",
        "a user and a password",
    ),
    (
        retried(
            f"ProxyError('Unable to connect to proxy', {no_connection('[Errno 111] refused')})"
        ),
        "HubUnreachable",
        "the proxy on the way to the Hub",
    ),
    (
        retried(
            "ProxyError('Unable to connect to proxy', NameResolutionError(\\\"Failed to resolve "
            "'proxy.example' ([Errno -2] Name or service not known)\\\"))"
        ),
        "HubUnreachable",
        "the proxy on the way to the Hub",
    ),
    (
        f"httpx.ProxyError: 503 Service Unavailable{UNREACHED}",
        "HubUnreachable",
        "correct HTTPS_PROXY in spec.engine.env",
    ),
    (
        "ValueError: Unknown scheme for proxy URL URL('proxy.example:3128')",
        "HubUnreachable",
        "write it as http://HOST:PORT",
    ),
    (
        "ImportError: Using SOCKS proxy, but the 'socksio' package is not installed.",
        "HubUnreachable",
        "none that the Hub's client can use",
    ),
    (
        retried(
            "SSLError(SSLEOFError(8, '[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in "
            "violation of protocol (_ssl.c:1006)'))"
        ),
        "HubUnreachable",
        "ends the TLS connection to the Hub (UNEXPECTED_EOF_WHILE_READING)",
    ),
    (
        "httpx.ConnectError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)",
        "HubUnreachable",
        "with http:// in HTTPS_PROXY",
    ),
    (
        f"requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: {URL}",
        "HubUnreachable",
        "says 503",
    ),
    (
        f"httpx.HTTPStatusError: Server error '502 Bad Gateway' for url '{URL}'",
        "HubUnreachable",
        "says 502",
    ),
    (
        "huggingface_hub.errors.FileMetadataError: Distant resource does not seem to be on "
        f"huggingface.co. It is possible that a configuration issue prevents you{UNREACHED}",
        "HubUnreachable",
        "correct HF_ENDPOINT in spec.engine.env",
    ),
    (
        "RuntimeError: An error occurred while downloading using `hf_transfer`. Consider disabling "
        "HF_HUB_ENABLE_HF_TRANSFER for better error handling.",
        "HubUnreachable",
        "take HF_HUB_ENABLE_HF_TRANSFER out of spec.engine.env",
    ),
    (
        "ValueError: Fast download using 'hf_transfer' is enabled (HF_HUB_ENABLE_HF_TRANSFER=1) "
        "but 'hf_transfer' package is not available in your environment.",
        "EngineRefused",
        "take HF_HUB_ENABLE_HF_TRANSFER out of spec.engine.env",
    ),
    (retried(no_connection("[Errno 101] Network is unreachable")), "HubUnreachable", "open the"),
    (f"ReadTimeout: (ReadTimeoutError('{POOL}: Read timed out.'))", "HubUnreachable", "open the"),
    ("httpx.ReadTimeout: The read operation timed out", "HubUnreachable", "open the"),
    ("httpx.RemoteProtocolError: peer closed connection", "HubUnreachable", "open the"),
    ("socket.gaierror: [Errno -2] Name or service not known", "HubUnreachable", "open the"),
    (
        "ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'reset by peer'))",
        "HubUnreachable",
        "open the",
    ),
    (
        "ChunkedEncodingError: ('Connection broken: IncompleteRead(12 bytes read, 8 expected)')",
        "HubUnreachable",
        "open the",
    ),
    (
        "RuntimeError: Data processing error: CAS service error : Reqwest Error: error sending "
        "request for url (https://cas-server.xethub.hf.co/reconstructions/1)",
        "XetFailed",
        "HF_HUB_DISABLE_XET=1",
    ),
    (
        "RuntimeError: Data processing error: I/O error: Permission denied (os error 13)",
        "PermissionDenied",
        "a file of its cache",
    ),
    (
        "RuntimeError: Data processing error: File reconstruction error: IO Error: No space left "
        "on device (os error 28)",
        "VolumeFull",
        "a volume is full",
    ),
    ("OSError: [Errno 122] Disk quota exceeded: '/cache/hub/1'", "VolumeFull", "its quota"),
    (
        "PermissionError: [Errno 1] Operation not permitted: '/cache/hub/1'",
        "PermissionDenied",
        "the engine may not use /cache/hub/1",
    ),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, "
        "file not fully covered",
        "ModelDamaged",
        "no safetensors file: incomplete metadata, file not fully covered; remove it",
    ),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
        "ModelDamaged",
        "git lfs pull",
    ),
    (
        "OSError: Consistency check failed: file should be of size 4227858712 but has size "
        "2290365199 (model-00045-of-00061.safetensors).",
        "ModelDamaged",
        "a download of 4227858712 bytes ended after 2290365199",
    ),
    (
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central "
        "directory",
        "ModelDamaged",
        "no checkpoint",
    ),
    ("_pickle.UnpicklingError: invalid load key, 'v'.", "ModelDamaged", "git lfs pull"),
    (
        "OSError: [Errno 107] Transport endpoint is not connected: '/models/config.json'",
        "VolumeFailed",
        "fails under the engine: Transport endpoint is not connected",
    ),
    (
        "safetensors_rust.SafetensorError: Error while reading: Input/output error (os error 5)",
        "VolumeFailed",
        "fails under the engine: Input/output error",
    ),
    (
        "OSError: [Errno 37] No locks available",
        "VolumeFailed",
        "has no file locks",
    ),
)
