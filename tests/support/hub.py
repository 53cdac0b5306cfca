"""A Hugging Face Hub on this machine, for the repositories that tests name."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Answers as the Hub does for the repositories that the tests name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.tokens: list[str | None] = []
        self.paths: list[str] = []
        self.padding = 0
        """Bytes that a config.json is made long by spaces."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization"))
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        if "missing/model" in path:
            self.answer(404, {"error": "not found"}, code="RepoNotFound")
        elif "private/model" in path:
            self.answer(401, {"error": "Repository not found"}, code="RepoNotFound")
        elif "gated/model" in path:
            self.answer(403, {"error": "gated"}, code="GatedRepo")
        elif "refused/model" in path:
            self.answer(403, {"error": "no"})
        elif "broken/model" in path:
            self.answer(503, {"error": "later"})
        elif "busy/model" in path:
            self.answer(429, {"error": "slow down"})
        elif "bare/model" in path and "resolve" in path:
            self.answer(404, {"error": "no file"}, code="EntryNotFound")
        elif "norevision" in path:
            self.answer(404, {"error": "no revision"}, code="RevisionNotFound")
        elif "html/model" in path and "resolve" in path:
            self.answer_text(200, "<html>")
        elif path.endswith("modules.json"):
            self.answer(
                200, [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
            )
        elif path.endswith("hf_quant_config.json"):
            self.answer(200, {"quantization": {"quant_algo": "FP8"}})
        elif "/resolve/" in path:
            self.answer_text(200, json.dumps(CONFIG).ljust(self.server.padding))
        elif "exotic/model" in path:
            self.info({"parameters": {"X13": 4}, "total": 4})
        elif "typed/" in path:
            kind = path.partition("typed/")[2].split("/")[0]
            self.info({"parameters": {kind: 1000}, "total": 1000})
        elif "pickled/model" in path:
            self.info(None)
        elif "pooled/model" in path:
            self.info(None, "config.json", "modules.json")
        elif "modelopt/model" in path:
            self.info(None, "config.json", "hf_quant_config.json")
        else:
            self.info({"parameters": {"BF16": 1000, "F32": 10}, "total": 1010})

    def info(self, safetensors: object, *names: str) -> None:
        document: dict[str, object] = {"id": "org/model", "sha": COMMIT}
        document["siblings"] = [{"rfilename": name} for name in names]
        if safetensors is not None:
            document["safetensors"] = safetensors
        self.answer(200, document)

    def answer(self, status: int, document: object, code: str | None = None) -> None:
        self.answer_text(status, json.dumps(document), code)

    def answer_text(self, status: int, text: str, code: str | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def playing_hub() -> Iterator[Hub]:
    """A Hub that answers until the end of the block."""
    served = Hub()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        served.server_close()
        thread.join()
