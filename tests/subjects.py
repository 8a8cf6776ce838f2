"""What analyses are about, built on the spot: pairs of tiny models, and models that say the same at every position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from esr.analysis.models import Models
from esr.analysis.subject import Subject
from esr.config import configfile
from esr.method.events.alignment import Alignment
from esr.models.lm import LM
from esr.pair import Pair
from esr.records.problem import Problem
from esr.runs.rundir import RunDir
from tiny import make_lm

PROBLEMS = [
    Problem(id=str(i), question=q, answer="4")
    for i, q in enumerate(["what is 2+2?", "hi", "a longer one: 17 * 3", "b", "cc"])
]


@dataclass(frozen=True)
class Constructed(Subject):
    """A subject with problems of its own."""

    problems: tuple[Problem, ...] = ()

    def held_out(self, count):
        return list(self.problems[:count]), "test"

    def graded(self, count):
        return list(self.problems[:count]), "test", self.evaluation()


def subject(
    before: LM,
    after: LM | None,
    teacher: LM,
    problems: Sequence[Problem] = PROBLEMS,
    directory: Path = Path("nowhere"),
    step: int | None = None,
    **sections: dict[str, object],
) -> Subject:
    """A pair of models with the tiny tokenizer and 64 columns of logits; `sections` of the configuration."""
    tree = {"student": {"model": "s"}, "teacher": {"model": "t"}, "data": {"source": "gsm8k"}, **sections}
    pair = Pair(before.tokenizer, teacher.tokenizer, before.terminators, teacher.terminators, Alignment(64, 0, (), ()))
    models = Models(pair, before, after, teacher, 6 if after else 0)
    config = configfile.validate(tree, "test")
    return Constructed("test", RunDir(directory), config, lambda: models, step, tuple(problems))


def constant(probabilities: dict[str, float], terminators: tuple[int, ...] = (2,)) -> LM:
    """A model with these next-token probabilities whatever came before; other tokens share what is left."""
    lm = make_lm(1, terminators)
    ids = lm.tokenizer.convert_tokens_to_ids(list(probabilities))
    rest = (1 - sum(probabilities.values())) / (64 - len(ids))
    p = torch.full((64,), rest)
    p[torch.tensor(ids)] = torch.tensor(list(probabilities.values()))
    model = lm.module
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.copy_(p.log()[:, None] / model.config.hidden_size)
    return replace(lm, module=model)
