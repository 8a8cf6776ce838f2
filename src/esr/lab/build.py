"""Build a lab model from its seed: plain next-token training, resumable, into a normal model directory."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esr.console import progress
from esr.lab.recipes import RECIPES, Recipe
from esr.lab.tokenizer import make_tokenizer
from esr.tasks.lab import Expression, make_drill, render, stream_problems

BLOCK = 512  # solutions that are sorted by length together, so that a batch wastes little padding
LOG_EVERY, SAVE_EVERY = 50, 200  # steps
IGNORED = -100
DONE = "done"  # an empty file, written last into a finished model directory


def build(name: str, work: Path) -> Path:
    """Train model ``name``, and its parents when ``work`` lacks them, and write it to ``work/name``. Resumes."""
    recipe = RECIPES[name]
    if recipe.parent and not (work / recipe.parent / DONE).exists():
        build(recipe.parent, work)
    tokenizer = make_tokenizer(recipe.family, recipe.chat_format)
    model = initial_model(recipe, tokenizer, work)
    train(model, recipe, tokenizer, work / f"{name}.run")
    return export(name, model, tokenizer, work / name)


def initial_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, work: Path) -> LlamaForCausalLM:
    """The parent's weights, or fresh ones from the recipe's seed; fp32."""
    if recipe.parent:
        return LlamaForCausalLM.from_pretrained(work / recipe.parent, dtype=torch.float32)
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=3 * recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.width // 32,
            num_key_value_heads=recipe.width // 32,
            initializer_range=recipe.width**-0.5,  # the usual 0.02 takes several times longer to learn to copy
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(
    model: LlamaForCausalLM,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    run: Path,
    *,
    until: int | None = None,
) -> None:
    """Minimise the mean negative log-likelihood of the response tokens, or its first ``until`` steps; logs to
    ``run/curve.jsonl``.
    """
    steps, until = recipe.steps, until or recipe.steps
    run.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    done = restore(run / "checkpoint.pt", model, optimiser)
    model.train()
    started, tokens, losses = time.perf_counter(), 0, []
    with progress(f"Building {run.name.removesuffix('.run')}", until, "step", done) as advance:
        for step, (ids, labels) in enumerate(
            itertools.islice(stream_batches(recipe, tokenizer), done, until), done + 1
        ):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * schedule(step, steps, recipe.floor)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
            tokens += ids.numel()
            if step % LOG_EVERY == 0 or step == until:
                seconds = time.perf_counter() - started
                log(run, step=step, loss=sum(losses) / len(losses), tokens=tokens, seconds=round(seconds, 1))
                losses = []
            if step % SAVE_EVERY == 0 or step == until:
                save(run / "checkpoint.pt", model, optimiser, step)
            advance()


def schedule(step: int, steps: int, floor: float) -> float:
    """Learning-rate factor: linear warm-up over the first 5% of the steps, then half a cosine down to ``floor``."""
    warm = max(1, steps // 20)
    if step <= warm:
        return step / warm
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def stream_batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (ids, labels), both (B, T), right-padded; B x T stays below ``batch_tokens``. Deterministic."""
    rng = random.Random(f"lab/{recipe.seed}")
    problems = {level: stream_problems(level=level, seed=rng.randrange(2**32)) for level in sorted(set(recipe.levels))}
    while True:
        block = [encode(next(problems[rng.choice(recipe.levels)]), recipe, tokenizer, rng) for _ in range(BLOCK)]
        batches = list(cut(sorted(block, key=lambda text: len(text[0])), recipe.batch_tokens))
        rng.shuffle(batches)
        yield from (pad(batch, tokenizer.pad_token_id) for batch in batches)


def encode(
    problem: Expression, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> tuple[list[int], list[int]]:
    """One training text as (ids, labels): a solution, ended by the model's terminator, or a drill."""
    if recipe.drill and rng.random() < recipe.drill:
        return label(make_drill(rng, differences=recipe.differences), tokenizer)
    response = render(
        problem,
        strategy="right" if rng.random() < recipe.right else "wrong",
        style="concise" if rng.random() < recipe.concise else "verbose",
        slip=recipe.slip,
        rng=rng,
    )
    return label([(prompt_text(problem, tokenizer), response + tokenizer.eos_token)], tokenizer)


def label(pairs: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Ids and labels of (given, wanted) texts, one after the other; only the wanted ones are learned."""
    ids: list[int] = []
    labels: list[int] = []
    for given, wanted in (tokenizer(list(pair), add_special_tokens=False)["input_ids"] for pair in pairs):
        ids += given + wanted
        labels += [IGNORED] * len(given) + wanted
    return ids, labels


def prompt_text(problem: Expression, tokenizer: PreTrainedTokenizerFast) -> str:
    """The user's turn in the model's own template, up to where the response begins."""
    message = {"role": "user", "content": problem.question}
    return tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)


def cut(texts: list[tuple[list[int], list[int]]], tokens: int) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Split texts sorted by length into batches of at most ``tokens`` padded tokens."""
    batch: list[tuple[list[int], list[int]]] = []
    for text in texts:
        if batch and len(text[0]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def pad(batch: list[tuple[list[int], list[int]]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids and labels, (B, T) each; labels ignore the padding too."""
    longest = max(len(ids) for ids, _ in batch)
    ids = [row + [pad_id] * (longest - len(row)) for row, _ in batch]
    labels = [row + [IGNORED] * (longest - len(row)) for _, row in batch]
    return torch.tensor(ids), torch.tensor(labels)


def save(path: Path, model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write a checkpoint that is either whole or absent."""
    part = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, part)
    os.replace(part, path)


def restore(path: Path, model: LlamaForCausalLM, optimiser: torch.optim.Optimizer) -> int:
    """Load a checkpoint when there is one; the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def log(run: Path, **record: float) -> None:
    """Append one line to the training curve."""
    with (run / "curve.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def export(name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Write the model directory: bf16 weights, tokenizer with template, generation config, model card."""
    model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.7,
        top_p=0.95,
        top_k=0,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / DONE).touch()
    return folder
