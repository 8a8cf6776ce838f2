"""Measure a lab model: accuracy with interval, finish rate, strategy, style and length, by batched sampling."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean, quantiles

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from esr import intervals
from esr.lab.task import Problem, is_correct, plan_of

CAP = 900  # tokens; longer than any solution in the data
PARALLEL = 250  # prompts generated together


@dataclass(frozen=True)
class Scores:
    """Shares are of ``count`` problems, one sample each; lengths are in tokens, terminator included."""

    count: int
    accuracy: float
    low: float  # 95% Wilson interval of the accuracy
    high: float
    finished: float
    right: float  # committed to the right strategy
    accuracy_when_right: float  # how well it executes
    concise: float
    length: tuple[int, int, int]  # 10th, 50th and 90th percentile

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def measure(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], *, seed: int = 0
) -> Scores:
    """Sample one response per problem at the lab's usual temperature 0.7, top-p 0.95, and score them."""
    torch.manual_seed(seed)
    responses = [
        response
        for start in range(0, len(problems), PARALLEL)
        for response in respond(model, tokenizer, [problem.question for problem in problems[start : start + PARALLEL]])
    ]
    return score(problems, responses)


@torch.no_grad()
def respond(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[str], *, cap: int = CAP
) -> list[tuple[str, int, bool]]:
    """One sampled response per question: (text, tokens, finished)."""
    turns = [[{"role": "user", "content": question}] for question in questions]
    inputs = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    inputs.pop("token_type_ids", None)
    output = model.eval().generate(
        **inputs, max_new_tokens=cap, do_sample=True, temperature=0.7, top_p=0.95, top_k=0,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    replies = output[:, inputs["input_ids"].shape[1] :]
    lengths = (replies != tokenizer.pad_token_id).sum(1).tolist()
    finished = (replies == tokenizer.eos_token_id).any(1).tolist()
    return list(zip(tokenizer.batch_decode(replies, skip_special_tokens=True), lengths, finished, strict=True))


def score(problems: list[Problem], responses: list[tuple[str, int, bool]]) -> Scores:
    """Summarise responses (text, tokens, finished) to the problems, one each."""
    plans = [plan_of(text) or (None, None) for text, _, _ in responses]
    correct = [is_correct(problem, text) for problem, (text, _, _) in zip(problems, responses, strict=True)]
    when_right = [good for good, plan in zip(correct, plans, strict=True) if plan[1] == "right"]
    accuracy = intervals.accuracy([[float(good)] for good in correct])
    tenths = quantiles((tokens for _, tokens, _ in responses), n=10, method="inclusive")
    return Scores(
        count=len(problems),
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        finished=fmean(finished for _, _, finished in responses),
        right=fmean(plan[1] == "right" for plan in plans),
        accuracy_when_right=fmean(when_right) if when_right else 0.0,
        concise=fmean(plan[0] == "concise" for plan in plans),
        length=(round(tenths[0]), round(tenths[4]), round(tenths[8])),
    )
