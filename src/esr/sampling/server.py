"""Responses from vLLM servers: the same stop rule and sampling settings as here, other random numbers.

A server draws with a seed for each response, made of the run's seed, the problem and the sample. That is not the table of
`sampling.noise`: a response is the same again only on the same server, in the same batch, to rounding.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esr.console import say
from esr.errors import UserError
from esr.models.checkpoint import save_weights
from esr.models.lm import LM
from esr.models.server import (
    Refused,
    ServerLost,
    Servers,
    WrongAnswer,
    ahead,
    as_json,
    require_length,
    served,
    the_model,
)
from esr.runs.files import new_directory
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler

AT_ONCE = 64
"""Responses asked for at the same time; a server puts them into batches."""
Answered = tuple[list[int], bool]


class ServerWriter:
    """Writes with the model that servers have, or with an adapter that was pushed to them."""

    def __init__(self, servers: Servers, folder: Path, probe: Sequence[int]):
        """`folder`: where adapters are put, under the same path for the servers. `probe`: ids by which they are verified.

        Raises `UserError` if the servers do not answer.
        """
        self.servers, self.folder, self.probe = servers, folder.resolve(), list(probe)
        self.base = the_model(servers)
        self.name = self.base.name
        """Of what writes: the base, or the adapter pushed last."""
        self.adapter: Path | None = None
        self.checked: Tensor | None = None
        """The probe's log-probabilities by what writes, computed here."""
        self.noise = 0.0
        """How far a server's are from them at most."""

    def __call__(self, rows: Sequence[Sequence[int]], sampler: Sampler, noise: Noise) -> Iterator[Answered]:
        """Responses to `rows` of token ids, in the order of `noise`; several of its rows may belong to one prompt.

        Each is its token ids, and whether a terminator ended it. A server that has lost the adapter gets it again. Raises
        `UserError` for rows that are too long for the servers, and `ServerLost`.
        """
        require_length(self.servers, self.base, max(map(len, rows)) + sampler.max_new_tokens)
        times = len(noise) // len(rows)
        asked = [(turn, rows[turn // times], seed_of(row)) for turn, row in enumerate(noise.rows)]
        done = 0
        try:
            for response in ahead(lambda one: self._write(sampler, *one), asked, AT_ONCE):
                yield response
                done += 1
        except Refused as error:
            if self.adapter is None:
                raise
            say(f"{error} Its adapter is loaded again.")
            self._load(self.name, self.adapter)
            if self.checked is not None:
                self.verify(self.checked)
            yield from ahead(lambda one: self._write(sampler, *one), asked[done:], AT_ONCE)

    def _write(self, sampler: Sampler, turn: int, row: Sequence[int], seed: int) -> Answered:
        """One response."""
        question = {
            "model": self.name,
            "prompt": list(row),
            "seed": seed,
            "max_tokens": sampler.max_new_tokens,
            "temperature": sampler.temperature,
            "top_p": sampler.top_p,
            "top_k": sampler.top_k,
            "stop_token_ids": list(sampler.terminators),
            "ignore_eos": True,  # our terminators alone end a response
            "return_token_ids": True,
            "min_p": 0.0,  # these four would be the model's own defaults
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        return self.servers.ask("/v1/completions", question, lambda content: self._response(content, sampler), turn)

    def _response(self, content: bytes, sampler: Sampler) -> Answered:
        ids = self._choice(content).get("token_ids")
        if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
            raise WrongAnswer("no token ids")
        ended = next((place for place, i in enumerate(ids) if i in sampler.terminators), None)
        if ended is not None and ended + 1 < len(ids):
            raise WrongAnswer("a response that goes on after its end")
        if (ended is None and len(ids) != sampler.max_new_tokens) or len(ids) > sampler.max_new_tokens:
            raise WrongAnswer(
                f"a response of {len(ids)} tokens that has no end, where {sampler.max_new_tokens} are the most"
            )
        return ids, ended is not None

    def _choice(self, content: bytes) -> dict[str, Any]:
        """The one choice of an answer by what writes. Raises `WrongAnswer` if another model gave it."""
        answer = as_json(content)
        if answer.get("model") != self.name:
            raise WrongAnswer(f"another model answers than {self.name}")
        choices = answer.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise WrongAnswer("not one response")
        return choices[0]

    def log_probs(self, servers: Servers) -> Tensor:
        """(n - 1,) log-probabilities of the probe's tokens but the first, by what writes on the servers."""
        question = {"model": self.name, "prompt": self.probe, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}

        def read(content: bytes) -> Tensor:
            said: Any = self._choice(content).get("prompt_logprobs")
            try:
                found = [float(p[str(i)]["logprob"]) for p, i in zip(said[1:], self.probe[1:], strict=True)]
            except (TypeError, KeyError, ValueError):
                raise WrongAnswer("no log-probability for each token of the probe") from None
            return torch.tensor(found, dtype=torch.float64)

        return servers.ask("/v1/completions", question, read)

    def push(self, student: LM, label: str, expected: Tensor) -> None:
        """Write with the student's present adapter from now on; (n - 1,) `expected` are its log-probabilities of the probe.

        The adapter gets a name and a path of its own; the one before is unloaded and removed. Raises `UserError` if the student
        has no adapter, and `ServerLost` unless every server gives the expected numbers.
        """
        if student.adapter is None:
            raise UserError(f"{self.servers.key}: only adapters are pushed to servers; set student.train=lora.")
        with new_directory(self.folder / "next") as fresh:
            save_weights(student, fresh)
        name = name_of(self.folder / "next" / "adapter", f"{mark(self.folder)}-{label}")
        target = self.folder / name
        if not target.exists():
            (self.folder / "next").rename(target)
        if name != self.name:
            self.push_files(name, target / "adapter", expected)
        for old in self.folder.iterdir():
            if old != target:
                shutil.rmtree(old, ignore_errors=True)

    def push_files(self, name: str, adapter: Path, expected: Tensor | None) -> None:
        """`push` of an adapter that lies in a directory; without `expected`, its numbers are not verified."""
        self._load(name, adapter)
        self.adapter = adapter
        if expected is not None:
            self.verify(expected)
        for one in self.servers.each():
            old = [m.name for m in served(one) if m.name != name and m.name.startswith(f"esr-{mark(self.folder)}-")]
            for other in old:
                unload(one, other)

    def _load(self, name: str, adapter: Path) -> None:
        self.name = name
        for one in self.servers.each():
            if not any(model.name == name and model.root == str(adapter) for model in served(one)):
                one.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)}, lambda content: None)

    def verify(self, expected: Tensor) -> None:
        """Raise `ServerLost` unless every server gives the probe the `expected` log-probabilities, to rounding.

        An adapter that changes little changes less than rounding may: where it can be told, the numbers must also be nearer
        to the expected ones than to those that were verified before.
        """
        for one in self.servers.each():
            self._verify(one, expected)
        self.checked = expected

    def _verify(self, servers: Servers, expected: Tensor) -> None:
        found = self.log_probs(servers)
        apart = distance(found, expected)
        if not apart <= APART:
            raise ServerLost(
                f"{servers.key}: {servers.urls[0]} serves another model than the run's student: the log-probabilities of "
                f"{len(self.probe) - 1} tokens differ by {apart:.2g} on average."
            )
        if self.checked is not None:
            moved = distance(expected, self.checked)
            if moved > CLEARLY * self.noise and distance(found, self.checked) < apart:
                raise ServerLost(
                    f"{servers.key}: {servers.urls[0]} still writes with the weights before; restart it, then go on."
                )
        self.noise = max(self.noise, apart)


APART = 0.1
"""Largest mean distance of log-probabilities that may be rounding (bfloat16: some 0.01 on ordinary text)."""
CLEARLY = 4.0
"""A change of so many times the rounding is told from none."""


def mark(folder: Path) -> str:
    """What the names of a run's adapters begin with."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def name_of(adapter: Path, label: str) -> str:
    """An adapter's name on a server, of its weights too: other weights never have the same name."""
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    return f"esr-{label}-{hashlib.sha256(weights).hexdigest()[:12]}"


def distance(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference."""
    return float((a.double().cpu() - b.double().cpu()).abs().mean())


def unload(servers: Servers, name: str) -> None:
    """Have a server forget an adapter; whether it knew it does not matter."""
    with contextlib.suppress(Refused):
        servers.ask("/v1/unload_lora_adapter", {"lora_name": name}, lambda content: None)


def seed_of(row: tuple[int, int, int]) -> int:
    """A server's seed for a response, from (seed, problem, sample)."""
    return int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=4).digest(), "big")
