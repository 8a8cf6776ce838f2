"""Building a lab model: the same seed gives the same weights, also after an interruption; the directory loads."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from esr.lab import build, recipes
from esr.lab.recipes import Recipe
from esr.lab.tokenizer import END_OF_TEXT, END_OF_TURN, make_tokenizer
from esr.tasks.lab import make_problems, render

STEPS = 4
TINY = Recipe(about="A tiny one.", width=32, layers=1, drill=0.2, batch_tokens=512, steps=STEPS, seed=5)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.setattr(build, "BLOCK", 32)
    monkeypatch.setattr(build, "SAVE_EVERY", 2)
    monkeypatch.setattr(build, "LOG_EVERY", 1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_an_interrupted_build_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights(build.build("tiny", tmp_path / "whole"))
    keep = build.save

    def die_after_two(path: Path, model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, step: int) -> None:
        keep(path, model, optimiser, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "save", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        build.build("tiny", tmp_path / "cut")
    monkeypatch.setattr(build, "save", keep)
    resumed = weights(build.build("tiny", tmp_path / "cut"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    curve = [json.loads(line) for line in (tmp_path / "cut" / "tiny.run" / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [1, 2, 3, 4]


def test_labels_are_the_response_and_the_terminator() -> None:
    tokenizer = make_tokenizer("characters", "text")
    recipe = Recipe(about="", chat_format="text", batch_tokens=512)
    ids, labels = next(build.stream_batches(recipe, tokenizer))
    assert ids.shape == labels.shape
    for row, wanted in zip(ids, labels, strict=True):
        learned = tokenizer.decode(wanted[wanted != build.IGNORED])
        assert learned.endswith(END_OF_TEXT)
        assert tokenizer.decode(row[row != tokenizer.pad_token_id]).endswith("Solution:\n" + learned)


def test_batches_are_deterministic_and_bounded() -> None:
    tokenizer = make_tokenizer()
    once, again = (list(islice(build.stream_batches(TINY, tokenizer), 5)) for _ in range(2))
    assert all(torch.equal(a, b) for x, y in zip(once, again, strict=True) for a, b in zip(x, y, strict=True))
    assert all(ids.numel() <= 512 or len(ids) == 1 for ids, _ in once)


@pytest.mark.parametrize("family", ["characters", "merges"])
@pytest.mark.parametrize(("chat_format", "terminator"), [("chat", END_OF_TURN), ("text", END_OF_TEXT)])
def test_tokenizers_round_trip(tmp_path: Path, family: str, chat_format: str, terminator: str) -> None:
    make_tokenizer(family, chat_format).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = render(make_problems(1)[0], style="verbose", rng=random.Random(0))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token == terminator
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Compute 2+3*4."}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|assistant|>" if chat_format == "chat" else "Solution:\n")


def test_families_share_no_id_order() -> None:
    characters, merges = make_tokenizer("characters").get_vocab(), make_tokenizer("merges").get_vocab()
    shared = set(characters) & set(merges)
    assert len(shared) == len(characters)
    assert sum(characters[token] == merges[token] for token in shared) < 0.1 * len(shared)


@pytest.mark.parametrize("folder", sorted((Path(build.__file__).parent / "models").glob("*/")), ids=lambda f: f.name)
def test_a_shipped_model_loads_and_its_card_states_its_scores(folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    assert LlamaForCausalLM.from_pretrained(folder).num_parameters() == scores["parameters"]
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert scores["count"] >= 500
    assert f"| accuracy | {scores['accuracy']:.3f} |" in (folder / "README.md").read_text()


def test_a_shipped_model_is_rebuilt_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 50 of 900 steps of `far-0` from its seed follow the curve that came with the shipped weights."""
    monkeypatch.undo()
    name = "far-0"
    recipe = recipes.RECIPES[name]
    tokenizer = make_tokenizer(recipe.family, recipe.chat_format)
    build.train(build.initial_model(recipe, tokenizer, tmp_path), recipe, tokenizer, tmp_path / f"{name}.run", until=50)
    shipped = (Path(build.__file__).parent / "models" / name / "curve.jsonl").read_text().splitlines()
    first, rebuilt = json.loads(shipped[0]), json.loads((tmp_path / f"{name}.run" / "curve.jsonl").read_text())
    assert rebuilt["tokens"] == first["tokens"]
    assert rebuilt["loss"] == pytest.approx(first["loss"], rel=0.02)
