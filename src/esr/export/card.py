"""The model card of an exported student: what was done, what was measured, and metadata that the hub understands."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from esr import __version__
from esr.config import Config
from esr.records.base import as_text
from esr.records.closeness import MEASURES
from esr.records.evaluation import Evaluation, by_progress
from esr.records.steps import step_of


def card(config: Config, evaluations: list[Evaluation], step: str, adapter: bool, title: str) -> str:
    """Markdown with a YAML head, from the template `card.md`. `step` names the exported checkpoint."""
    by_task = sorted(evaluations, key=lambda e: (e.task, *by_progress(e)))
    return str(
        ModelCard.from_template(
            metadata(config, [e for e in by_task if e.step == step_of(step)], adapter, title),
            template_str=resources.files("esr.export").joinpath("card.md").read_text(encoding="utf-8"),
            student=config.student.model,
            teacher=config.teacher.model,
            version=__version__,
            step=step,
            title=title,
            n=config.rollout.max_new_tokens,
            recipe=recipe(config),
            measured=[measured(e) for e in by_task if not e.closeness],
            closeness=[row for e in by_task if e.closeness for row in closeness(e)],
            divergence=config.loss.divergence.replace("_kl", " KL").replace("jsd", "Jensen-Shannon divergence"),
        )
    )


def metadata(config: Config, evaluations: list[Evaluation], adapter: bool, title: str) -> ModelCardData:
    """What the hub reads: the base model if it lies there, and the exported student's accuracies in percent."""
    results = [
        EvalResult(
            "text-generation", e.task, e.task, "accuracy", round(100 * e.avg.value, 2), metric_name=f"avg@{e.samples}"
        )
        for e in evaluations
        if e.avg
    ]
    return ModelCardData(
        base_model=hub_id(config.student.model),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["on-policy-distillation", "esr"],
        model_name=title,
        eval_results=results or None,
    )


def hub_id(ref: str) -> str | None:
    """The model reference, if it is a repository on the hub: not a directory here, nor a model of the lab."""
    try:
        validate_repo_id(ref)
    except HFValidationError:
        return None
    return None if Path(ref).exists() or "/" not in ref else ref


def recipe(config: Config) -> list[tuple[str, Any]]:
    """Rows of (setting, value)."""
    rollout, optim, lora = config.rollout, config.optim, config.student.lora
    weight = config.loss.position_weight
    tuned = f"LoRA r={lora.r}, alpha={lora.alpha:g}" if config.student.train == "lora" else "all weights"
    return [
        ("prompts", config.data.source),
        ("early-stop length N", rollout.stops_at),
        ("steps", optim.steps),
        ("responses per step", f"{rollout.prompts_per_step} prompts x {rollout.samples_per_prompt}"),
        ("sampling", f"temperature {rollout.temperature:g}, top-p {rollout.top_p:g}"),
        (
            "loss",
            f"{config.loss.divergence}, {config.loss.aggregation}, selection {config.loss.selection.by}"
            + ("" if weight.shape == "flat" else f", position weights {weight.shape} over {weight.scale} tokens"),
        ),
        ("trained", tuned),
        ("learning rate", f"{config.lr:g}, {optim.schedule}"),
        ("seed", config.run.seed),
        ("system prompt", json.dumps(config.student.system_prompt)),
    ]


def closeness(e: Evaluation) -> list[tuple[str, ...]]:
    """Rows of the table of a task without references."""
    named = [(MEASURES[name], value) for name, value in e.closeness.items()]
    return [(e.label, e.task, words, value.text(form)) for (words, form), value in named]


def measured(e: Evaluation) -> tuple[str, ...]:
    """An evaluation's row of the table."""
    shares = (as_text(share, unit="%") for share in (e.avg, e.pass_at_k, e.finish_rate))
    return (e.label, e.task, f"{e.problems} x {e.samples}", *shares, f"{e.tokens['p50']:.0f}")
