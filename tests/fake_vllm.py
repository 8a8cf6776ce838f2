"""A small HTTP server that speaks like vLLM for a tiny model, and fails in every way that a test asks for."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from esr.method.tensors import Prompts
from esr.models.lm import LM
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from esr.scoring import last_hidden


class FakeVLLM:
    """Serves the model in `folder`. `faults` maps a path to what goes wrong at its next requests, one after the other:
    `500`, `400`, `half`, `cut`, `mute`, `drip`, `short`, `nan`, `text`, `other`, `long`, `stale`, `forget`."""

    def __init__(self, folder: Path, longest: int = 512):
        self.folder, self.longest = str(folder), longest
        self.module: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.missing: set[str] = set()
        """Paths that it does not have: it was started for other work."""
        self.adapters: dict[str, str] = {}
        self.loaded: list[str] = []
        """Names of all adapters that were ever loaded."""
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def answer(self, path: str, body: dict[str, Any], fault: str) -> tuple[int, bytes]:
        if path in self.missing:
            return 404, b'{"detail":"Not Found"}'
        if path == "/v1/models":
            rows = [{"id": "base", "root": self.folder, "parent": None, "max_model_len": self.longest}]
            rows += [{"id": n, "root": p, "parent": "base"} for n, p in self.adapters.items()]
            return 200, json.dumps({"data": rows}).encode()
        if path == "/tokenize":
            ids = self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
            return 200, json.dumps({"tokens": ids[::-1] if fault == "other" else ids}).encode()
        if path == "/v1/load_lora_adapter":
            return self._load(body["lora_name"], body["lora_path"], fault)
        if path == "/v1/unload_lora_adapter":
            return (200, b"Success") if self.adapters.pop(body["lora_name"], None) else (404, b"{}")
        if body["model"] != "base" and body["model"] not in self.adapters:
            return 404, b'{"error": {"message": "The model does not exist."}}'
        rows = body["input"] if path == "/pooling" else body["prompt"]
        rows = rows if isinstance(rows[0], list) else [rows]
        if max(map(len, rows)) + body.get("max_tokens", 0) > self.longest:
            return 400, b'{"error": {"message": "This model\'s maximum context length is exceeded."}}'
        return self._pooling(body, fault) if path == "/pooling" else self._completions(body, fault)

    def _load(self, name: str, path: str, fault: str) -> tuple[int, bytes]:
        if name in self.adapters:
            return 400, b"already loaded"
        if fault != "stale" or not isinstance(self.module, peft.PeftModel):
            if isinstance(self.module, peft.PeftModel):
                self.module.load_adapter(path, adapter_name=name.replace(".", "_"))
            else:
                self.module = peft.PeftModel.from_pretrained(self.module, path, adapter_name=name).eval()
            self.active = name
        self.adapters[name] = path
        self.loaded.append(name)
        return 200, b"Success"

    def lm(self, name: str, terminators: tuple[int, ...] = ()) -> LM:
        adapter = None if name == "base" else self.active
        return LM(self.module.eval(), self.tokenizer, None, terminators, adapter)  # type: ignore[arg-type]

    def _pooling(self, body: dict[str, Any], fault: str) -> tuple[int, bytes]:
        assert body["task"] == "token_embed" and body["use_activation"] is False
        with torch.no_grad():
            rows = [last_hidden(self.lm("base"), torch.tensor([row]))[0] for row in body["input"]]
        states = torch.cat(rows).to(getattr(torch, body["embed_dtype"]))
        if fault == "short":
            states = states[:-1]
        if fault == "nan":
            states[0, 0] = float("nan")
        return 200, states.view(torch.uint8).numpy().tobytes()

    def _completions(self, body: dict[str, Any], fault: str) -> tuple[int, bytes]:
        many = isinstance(body["prompt"][0], list)
        rows = body["prompt"] if many else [body["prompt"]]
        choices = [self._choice(row, body, fault) for row in rows]
        name = "another" if fault == "other" else body["model"]
        return 200, json.dumps({"model": name, "choices": choices}).encode()

    def _choice(self, row: list[int], body: dict[str, Any], fault: str) -> dict[str, Any]:
        lm = self.lm(body["model"], tuple(body.get("stop_token_ids", ())))
        if (k := body.get("prompt_logprobs")) is not None:
            with torch.no_grad(), lm.running():
                logp = lm.module(torch.tensor([row])).logits[0].double().log_softmax(-1)
            said: list[Any] = [None]
            for position, token in zip(logp, row[1:]):
                listed = {*position.topk(k).indices.tolist(), token} if k else {token}
                said.append({str(i): {"logprob": float(position[i])} for i in listed})
            return {"prompt_logprobs": said}
        sampler = Sampler(body["max_tokens"], lm.terminators, body["temperature"], body["top_p"], body["top_k"])
        ids = torch.tensor([row])
        found = sample(
            lm, Prompts(ids, torch.ones_like(ids, dtype=torch.bool)), sampler, Noise(((body["seed"], 0, 0),))
        )
        ids = found.token_lists()[0]
        return {"token_ids": {"long": ids * 9, "short": ids[:0], "text": "x"}.get(fault, ids)}


def handler(fake: FakeVLLM) -> type[BaseHTTPRequestHandler]:
    """Answers of `fake`, with its faults."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            with fake.lock:
                fake.asked.append(self.path)
                waiting = fake.faults.get(self.path)
                fault = waiting.pop(0) if waiting else ""
                if fault == "forget":
                    fake.adapters.clear()
                status, content = (int(fault), b"broken") if fault.isdigit() else fake.answer(self.path, body, fault)
            if fault == "mute":
                fake.ended.wait(20)
            if fault == "cut":
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault == "half":
                content, self.close_connection = content[: len(content) // 2], True
            with contextlib.suppress(OSError):
                if fault == "drip":
                    for place in range(len(content)):
                        if fake.ended.wait(0.02):
                            break
                        self.wfile.write(content[place : place + 1])
                        self.wfile.flush()
                else:
                    self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(fake: FakeVLLM) -> Iterator[str]:
    """The address at which `fake` answers inside the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        fake.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
