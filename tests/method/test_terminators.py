"""A base student that stops with one token and a teacher that stops with another, both trained here to do so."""

import torch

from esr import prompts
from esr.config import ModelConfig
from esr.distill import Distiller, PromptPair, step
from esr.method.events import EventSpace, one_vocabulary
from esr.models import terminators
from esr.records.problem import Problem
from esr.sampling.sampler import Sampler
from test_distill import config
from tiny import make_lm, make_tokenizer

END_OF_TEXT, IM_END = 1, 2
QUESTIONS = ["2+2=?", "3+1=?", "a?", "bb?"]


def taught(seed: int, terminator: int):
    """A tiny model that answers `ok` and then stops with `terminator`, almost surely, after a real ChatML-style prompt."""
    lm = make_lm(seed, (terminator,))
    model = lm.module.requires_grad_(True).train()
    answer = lm.tokenizer("ok", add_special_tokens=False)["input_ids"]
    rows = [prompts.render(lm.tokenizer, lm.config, q) + answer + [terminator] for q in QUESTIONS]
    batch = prompts.pad(rows)
    labels = batch.ids.masked_fill(~batch.mask, -100)
    labels[:, :-3] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return lm


def kl_at_stops(events: EventSpace) -> dict[str, float]:
    student, teacher = taught(1, END_OF_TEXT), taught(2, IM_END)
    teacher.module.eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-3)
    sampler = Sampler(12, (END_OF_TEXT, IM_END), 0.7, 0.95)
    run = Distiller(config(), student, teacher, events, sampler, optimizer, 10**6, lambda text: None)
    rows = [prompts.render(student.tokenizer, student.config, q) for q in QUESTIONS]
    pairs = [PromptPair(Problem(id=q, question=q), row, row) for q, row in zip(QUESTIONS, rows)]
    return step(run, pairs, 0, 1e-3).metrics


def test_merged_terminators_keep_the_loss_at_stops_small_and_plain_ones_blow_up():
    merged = kl_at_stops(one_vocabulary(64, (END_OF_TEXT, IM_END)))
    plain = kl_at_stops(one_vocabulary(64))
    assert merged["stop/terminator"] == plain["stop/terminator"] == 1.0
    assert merged["kl/at_terminator"] < 0.1
    assert plain["kl/at_terminator"] > 4.0
    assert plain["loss"] > 10 * merged["loss"]


def test_both_sides_terminators_are_found():
    """Tokenizer's end, generation config's ends, and what the template writes after an assistant's message."""

    base = make_tokenizer(eos="<|endoftext|>")
    cfg = ModelConfig(model="x")
    assert terminators.terminators(base, cfg) == (1, 2)
    assert terminators.terminators(make_tokenizer(eos="<|endoftext|>", template=None), cfg) == (1,)
    assert terminators.terminators(make_tokenizer(), cfg, {"generation_config.json": [2, 40]}) == (2, 40)
