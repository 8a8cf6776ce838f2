"""A trained student as a model directory that plain transformers (or PEFT) loads, with a model card."""

import json
from pathlib import Path
from typing import Any

import jinja2
import peft
import torch

from esr import __version__
from esr.config import Config
from esr.errors import UserError
from esr.models import checkpoint
from esr.models.checkpoint import find_checkpoint
from esr.models.lm import resolve_dtype
from esr.models.load import load_generation_config, load_student, load_tokenizer
from esr.records.base import Estimate
from esr.records.evaluation import Evaluation, label
from esr.runs.files import new_directory, write_text
from esr.runs.rundir import RunDir

CARD = """\
---
base_model: {{ student }}
library_name: {{ "peft" if adapter else "transformers" }}
tags: [on-policy-distillation, esr]
---
# {{ title }}

`{{ student }}`, distilled on-policy from `{{ teacher }}` with [esr]({{ "https://arxiv.org/abs/2605.27028" }}) {{ version }}:
the student wrote its own responses, stopped after at most {{ n }} tokens, and was trained on the {{ divergence }} to the
teacher's next-token distributions at every position.

## Recipe

| setting | value |
|---|---|
{% for key, value in recipe %}| {{ key }} | {{ value }} |
{% endfor %}
## Measured
{% if evaluations %}
Accuracy is avg@k by the last answer in a response, with a 95% interval clustered by problem.

| model | task | problems x k | accuracy | pass@k | finished | median tokens |
|---|---|---|---|---|---|---|
{% for e in evaluations %}| {{ e.name | label }} | {{ e.task }} | {{ e.problems }} x {{ e.samples }} | {{ e.avg | pct }} | \
{{ e.pass_at_k | pct }} | {{ e.finish_rate | pct }} | {{ "%.0f" | format(e.tokens.p50) }} |
{% endfor %}
The exported weights are those of `{{ step }}`.
{% else %}
This run was not evaluated (its configuration has no `eval` section).
{% endif %}"""


def export(run: RunDir, target: Path, step: int | None, kind: str) -> Path:
    """Write the student of `step` (default: the last checkpoint) to `target`, whole or not at all.

    `kind`: `merged` is a full model, `adapter` a PEFT adapter. Raises `UserError` if that cannot be had.
    """
    if target.exists():
        raise UserError(f"{target} exists already; choose another directory.")
    config = run.config()
    saved = find_checkpoint(run, step)
    if kind == "adapter" and not (saved / "adapter").exists():
        raise UserError(f"{run.path} trained the full model, so there is no adapter to export; leave out --adapter.")
    tokenizer = load_tokenizer(config.student)
    with new_directory(target) as folder:
        if kind == "adapter":
            for file in (saved / "adapter").iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
        else:
            merged(config, saved).save_pretrained(folder)
            load_generation_config(config.student).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", card(config, run.evaluations(), saved.name, kind == "adapter", target.name))
    return target


def merged(config: Config, saved: Path) -> Any:
    """The trained model without adapters, in the type it was configured with."""
    device = torch.device("cpu")
    dtype = resolve_dtype(config.student.dtype, device)
    student = load_student(config.student, device, (), config.run.seed)
    checkpoint.load_weights(student, saved)
    module = student.module
    if isinstance(module, peft.PeftModel):
        module = module.merge_and_unload()
    return module.to(dtype)


def card(config: Config, evaluations: list[Evaluation], step: str, adapter: bool, title: str) -> str:
    """The model card: what was done, and what was measured."""
    rollout, optim = config.rollout, config.optim
    tuned = (
        f"LoRA r={config.student.lora.r}, alpha={config.student.lora.alpha:g}"
        if config.student.train == "lora"
        else "all weights"
    )
    recipe = [
        ("prompts", config.data.source), ("early-stop length N", rollout.max_new_tokens),
        ("steps", optim.steps), ("responses per step", f"{rollout.prompts_per_step} prompts x {rollout.samples_per_prompt}"),
        ("sampling", f"temperature {rollout.temperature:g}, top-p {rollout.top_p:g}"),
        ("loss", f"{config.loss.divergence}, {config.loss.aggregation}, selection {config.loss.selection.by}"),
        ("trained", tuned), ("learning rate", f"{config.lr:g}, {optim.schedule}"), ("seed", config.run.seed),
        ("system prompt", json.dumps(config.student.system_prompt)),
    ]  # fmt: skip
    environment = jinja2.Environment(autoescape=False, trim_blocks=False)
    environment.filters |= {"pct": percent, "label": label}
    return environment.from_string(CARD).render(
        student=config.student.model, teacher=config.teacher.model, version=__version__, n=rollout.max_new_tokens,
        divergence=config.loss.divergence.replace("_kl", " KL").replace("jsd", "Jensen-Shannon divergence"), recipe=recipe,
        evaluations=sorted(evaluations, key=lambda e: (e.task, e.name)), step=step, adapter=adapter, title=title,
    )  # fmt: skip


def percent(estimate: Estimate) -> str:
    """`52.1% [48.0, 56.2]`."""
    return f"{100 * estimate.value:.1f}% [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
