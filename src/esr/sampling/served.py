"""The servers of a run: before the first step they must say what the model here says; then they follow the student."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr import probe
from esr.config import Config, ModelConfig
from esr.console import say
from esr.errors import UserError
from esr.method.tensors import Prompts, Rollout
from esr.models.head import head
from esr.models.lm import LM, resolve_dtype
from esr.models.load import load_model, load_tokenizer, on_meta
from esr.models.remote import HiddenStates, TopK
from esr.models.server import Refused, ServerLost, Servers, WrongAnswer, as_json, require_length, the_model
from esr.ranks import here
from esr.sampling.server import APART, ServerWriter, distance, name_of
from esr.scoring import hidden_states

CPU = torch.device("cpu")
TEXT = "Tokenizers differ: naïve 1234 + 56 = ?\n\n  def f(x):  return x**2  # 語"
"""Text that few different tokenizers split alike."""
LONGEST = 96
"""Tokens of a probe."""
SHARE = 0.8
"""Of the free memory that a model may take which is loaded for a moment, to compare."""
INFORMED = 0.75
"""Of log V, the nats a token of a guess: a model that belongs to its head predicts real text with fewer."""


def require_servers(config: Config) -> None:
    """Raise `UserError` unless every server that a run needs answers now. Takes seconds."""
    named = {"teacher.server": config.teacher.server, "rollout.server": config.rollout.server}
    for key, urls in (named | {"eval.server": config.eval.server if config.eval else []}).items():
        if urls:
            the_model(Servers(key, tuple(urls)))


def check_teacher(lm: LM, texts: Sequence[Sequence[int]], tokens: int) -> None:
    """Raise `UserError` unless the servers of a teacher give the numbers of the model itself on a prompt among `texts`,
    and take each of these with a response of so many `tokens`.

    Where the model fits in memory it is loaded for a moment and compared. Else what a server says of a token must not depend
    on the tokens after it, and with the head that is here it must predict the prompt.
    """
    if lm.scorer is None:
        return
    assert isinstance(lm.scorer, (HiddenStates, TopK))
    row, ours = max(texts, key=len), local(lm.config)
    longest = len(row) + tokens + isinstance(lm.scorer, TopK)  # whose servers write a token besides
    row = row[:LONGEST]
    try:
        for one in lm.scorer.servers.each():
            same_tokenizer(one, lm.tokenizer)
            require_length(one, the_model(one), longest)
            _check_scores(replace(lm, scorer=replace(lm.scorer, servers=one)), ours, row)
    except ServerLost as error:
        raise UserError(f"{error} The run has not begun.") from None


def _check_scores(lm: LM, ours: LM | None, row: Sequence[int]) -> None:
    found = log_probs(lm, row)
    nats = -float(found.mean())
    if ours is None:
        half = log_probs(lm, row[: len(row) // 2])
        _require(distance(found[: len(half)], half) <= APART, "what it says of a token depends on the tokens after it")
        guess = math.log(lm.vocab_size)
        _require(
            nats < INFORMED * guess,
            f"with the head of {lm.config.model} its hidden states predict text no better than a guess",
        )
        say(
            f"{lm.config.model} does not fit in memory here; its server is checked for consistency only ({nats:.2f} nats a token)."
        )
        return
    apart = distance(found, log_probs(ours, row))
    _require(
        apart <= APART, f"its log-probabilities of a prompt are not those of {lm.config.model}, by {apart:.2g} a token"
    )
    if isinstance(lm.scorer, HiddenStates):
        own = probe.logits(ours)
        probe.require_same(
            own, probe.scored(lm), lm.config.model, "what its server gives differs from the model itself"
        )
    say(f"The teacher's server gives the model's own log-probabilities ({apart:.1e} apart).")


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise UserError(f"teacher.server: {why}. Start the server with the command that `esr serve teacher` prints.")


def log_probs(lm: LM, row: Sequence[int]) -> Tensor:
    """(n - 1,) log-probabilities of a row's tokens but the first, in evaluation mode, by this process or the model's servers."""
    ids = torch.tensor([list(row)], device=lm.device)
    prompts = Prompts(ids[:, :1], torch.ones_like(ids[:, :1], dtype=torch.bool))
    rollout = Rollout(ids[:, 1:], torch.ones_like(ids[:, 1:], dtype=torch.bool), ids.new_zeros(1))
    training = lm.module.training
    lm.module.eval()
    try:
        with torch.no_grad():
            found = hidden_states(lm, prompts, rollout)
            if found.dim() == 2:
                return head(lm, found).double().log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1).cpu()
            return found[..., 1].masked_fill(found[..., 0] != ids[0, 1:, None], 0.0).sum(-1).cpu()
    finally:
        lm.module.train(training)


def local(config: ModelConfig) -> LM | None:
    """The model itself, on the CPU; None if it does not fit in the free memory."""
    size = sum(p.numel() for p in on_meta(config).parameters()) * resolve_dtype(config, CPU).itemsize
    return load_model(config, CPU, ()) if size <= SHARE * psutil.virtual_memory().available else None


def same_tokenizer(servers: Servers, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `UserError` if a server splits text in another way. A server that does not tell is believed."""
    wanted = tokenizer(TEXT, add_special_tokens=False)["input_ids"]

    def read(content: bytes) -> list[int]:
        found = as_json(content).get("tokens")
        if not isinstance(found, list):
            raise WrongAnswer("no tokens")
        return found

    try:
        found = servers.ask("/tokenize", {"prompt": TEXT, "add_special_tokens": False}, read)
    except Refused:
        say(
            f"{servers.key}: {servers.urls[0]} does not tell how it splits text, so that its tokenizer is not compared."
        )
        return
    if found != wanted:
        raise UserError(
            f"{servers.key}: {servers.urls[0]} has another tokenizer than the model here; let it serve that model."
        )


def writing(lm: LM, key: str, urls: Sequence[str], folder: Path, texts: Sequence[Sequence[int]]) -> LM:
    """`lm`, whose responses the servers at `urls` write from now on (none: this process does), with what was pushed to them.

    `folder` is for adapters, `texts` are prompts' ids. Raises `UserError` unless the servers have the base of `lm`.
    """
    if not urls:
        return replace(lm, writer=None)
    writer = ServerWriter(Servers(key, tuple(urls)), folder, max(texts, key=len)[:LONGEST])
    try:
        for one in writer.servers.each():
            same_tokenizer(one, lm.tokenizer)
        writer.verify(log_probs(replace(lm, adapter=None), writer.probe))
    except ServerLost as error:
        raise UserError(f"{error} The run has not begun.") from None
    say(
        f"{key}: vLLM writes, with seeds for the responses instead of esr's table of random numbers; a repetition may differ."
    )
    return replace(lm, writer=writer)


def published(student: LM, index: int) -> None:
    """Have the servers that write for the student do so with its weights after `index` steps; without servers, nothing."""
    writer, ours = student.writer, here()
    if isinstance(writer, ServerWriter):
        expected = log_probs(student, writer.probe)
        ours.together(lambda: writer.push(student, f"{index:06d}", expected) if ours.first else None)
        writer.name = ours.of_first(writer.name)


def unloaded(
    config: ModelConfig, terminators: tuple[int, ...], urls: Sequence[str], folder: Path, row: Sequence[int]
) -> LM:
    """A model that only servers run: its tokenizer and shapes are here, no weights.

    Raises `UserError` unless the servers have it; where it does not fit in memory, its name is compared instead of its numbers.
    """
    tokenizer = load_tokenizer(config)
    writer = ServerWriter(Servers("eval.server", tuple(urls)), folder, row[:LONGEST])
    ours = local(config.model_copy(update={"adapter": None}))
    if ours is None and Path(writer.base.root).name != Path(config.model).name:
        raise UserError(
            f"eval.server: it serves {writer.base.root}, and {config.model} does not fit in memory here to be compared; let the "
            "server load it by that name."
        )
    try:
        for one in writer.servers.each():
            same_tokenizer(one, tokenizer)
        if ours is not None:
            writer.verify(log_probs(ours, writer.probe))
    except ServerLost as error:
        raise UserError(str(error)) from None
    return LM(on_meta(config), tokenizer, config, terminators, at=CPU, writer=writer)


def push_adapter(lm: LM, adapter: Path) -> None:
    """Have the servers of an `unloaded` model write with an adapter that lies in a directory; verified where the model fits here."""
    assert isinstance(lm.writer, ServerWriter)
    ours = local(lm.config.model_copy(update={"adapter": str(adapter)}))
    expected = None if ours is None else log_probs(ours, lm.writer.probe)
    try:
        lm.writer.push_files(name_of(adapter, "eval"), adapter.resolve(), expected)
    except ServerLost as error:
        raise UserError(str(error)) from None
