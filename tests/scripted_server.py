"""A real HTTP server on loopback that answers chat requests as a script says, faults included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Raw:
    """An HTTP reply of any kind. `cut` ends the connection after so many bytes of the body."""

    status: int = 200
    body: str = ""
    headers: dict = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    body: dict
    headers: dict
    time: float

    @property
    def prompt(self) -> str:
        """The content of the last message."""
        return self.body["messages"][-1]["content"]


def completion(text: str | None, *, finish: str = "stop", usage: bool = True, model: str = "scripted") -> str:
    """The body of a chat completion; tokens are words."""
    counted = {"prompt_tokens": 10, "completion_tokens": len((text or "").split())}
    counted["total_tokens"] = sum(counted.values())
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return json.dumps(body | ({"usage": counted} if usage else {}))


class ScriptedServer:
    """Serves `answer(received, n)`: a string is the text of a good answer, a `Raw` anything else. n counts from 1.

    With listening=False the port refuses connections until the server is entered.
    `received` lists the requests in order of arrival, and `most_at_once` how many were under way together.
    """

    def __init__(self, answer: Callable[[Received, int], str | Raw], *, port: int = 0, listening: bool = True) -> None:
        self.received: list[Received] = []
        self.most_at_once = 0
        outer, lock, under_way = self, threading.Lock(), []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen = Received(body | {"path": self.path}, dict(self.headers), time.monotonic())
                with lock:
                    outer.received.append(seen)
                    n = len(outer.received)
                    under_way.append(n)
                    outer.most_at_once = max(outer.most_at_once, len(under_way))
                try:
                    reply = answer(seen, n)
                    reply = reply if isinstance(reply, Raw) else Raw(body=completion(reply))
                    if reply.delay:
                        time.sleep(reply.delay)
                finally:
                    with lock:
                        under_way.remove(n)
                data = reply.body.encode()
                try:
                    self.send_response(reply.status)
                    for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data if reply.cut is None else data[: reply.cut])
                    if reply.cut is not None:
                        self.close_connection = True
                except ConnectionError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing on the screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
        self._server.request_queue_size = 256
        self._listening = False
        if listening:
            self._listen()
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _listen(self) -> None:
        self._listening = True
        self._server.server_bind()
        self._server.server_activate()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        """The last message of every request, in order of arrival."""
        return [r.prompt for r in self.received]

    def __enter__(self) -> ScriptedServer:
        if not self._listening:
            self._listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
