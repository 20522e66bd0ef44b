"""A server that speaks OpenAI's chat completions over real HTTP, in a thread; what it answers is up to the test."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from overproof.inference.ports import Engine, Request
from overproof.inference.settings import InferenceSettings
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

KEY = "sk-test-4f1d2c"


class Reply(NamedTuple):
    """One HTTP answer."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    hang_up: bool = False
    """Close the connection without an answer."""


Answer = Callable[[dict[str, Any]], Reply]


class ChatServer:
    """Serves `/v1/models` and `/v1/chat/completions` until it is closed. `answer` maps a request's body to a reply."""

    def __init__(
        self,
        answer: Answer,
        models: tuple[dict[str, Any], ...] = ({"id": "tiny", "object": "model"},),
        address: str = "127.0.0.1",
    ) -> None:
        self.answer = answer
        self.models: tuple[dict[str, Any], ...] | None = models
        self.next_replies: deque[Reply] = deque()
        """Answers of the next requests, before `answer` is asked."""
        self.asked: list[dict[str, Any]] = []
        """Bodies of all requests for completions."""
        self.keys: set[str] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer((address, 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return self._http.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def settings(self, **how: Any) -> InferenceSettings:
        return InferenceSettings(**({"openai_base_url": self.url, "openai_api_key": KEY, "openai_retries": 2} | how))

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, path: str, key: str, body: dict[str, Any]) -> Reply:
        self.keys.add(key)
        if key != f"Bearer {KEY}":
            return refusal(401, f"Incorrect API key provided: {key}")
        if path == "/v1/models":
            return (
                Reply({"object": "list", "data": self.models}) if self.models is not None else refusal(404, "Not Found")
            )
        with self._lock:
            self.asked.append(body)
            planned = self.next_replies.popleft() if self.next_replies else None
        if body["model"] not in {one["id"] for one in self.models or ()}:
            return refusal(404, f"The model `{body['model']}` does not exist.")
        return planned or self.answer(body)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(server.reply(self.path, self.headers.get("Authorization", ""), {}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._counted():
                    reply = server.reply(self.path, self.headers.get("Authorization", ""), body)
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                if reply.hang_up:
                    self.close_connection = True
                    return
                data = json.dumps(reply.body).encode()
                with contextlib.suppress(OSError):  # the client has gone
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI's servers word it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def completion(
    text: str | None, *, prompt_tokens: int = 7, tokens: int = 5, finish: str = "stop", **message: Any
) -> Reply:
    """A finished completion."""
    return Reply(
        {
            "id": "c", "object": "chat.completion", "created": 0, "model": "tiny",
            "choices": [{
                "index": 0, "finish_reason": finish, "logprobs": None,
                "message": {"role": "assistant", "content": text} | message,
            }],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens},
        }
    )  # fmt: skip


def served_by(engine: Engine) -> Answer:
    """Answers out of another engine: its texts, its counts, its seeds."""

    def answer(body: dict[str, Any]) -> Reply:
        sampling = Sampling(
            temperature=body["temperature"], top_p=body["top_p"], top_k=body.get("top_k", 0),
            max_tokens=body["max_tokens"], stop=tuple(body.get("stop", ())),
        )  # fmt: skip
        (made,) = engine.generate([Request(0, body["messages"], (body.get("seed", 0),))], sampling, lambda: None)
        if made.finish_reason == FinishReason.ERROR:
            return refusal(400, made.text, "context_length_exceeded")
        reply = completion(
            made.text, prompt_tokens=made.prompt_tokens, tokens=made.n_tokens, finish=str(made.finish_reason)
        )
        if body.get("logprobs"):
            token = {"token": "", "logprob": made.mean_logprob, "bytes": None, "top_logprobs": []}
            reply.body["choices"][0]["logprobs"] = {"content": [token] * made.n_tokens, "refusal": None}
        return reply

    return answer
