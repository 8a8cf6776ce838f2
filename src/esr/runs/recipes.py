"""A configuration in the words of other tools: the same method as far as they have it, and a list of what they have not. No torch here.

The names were read in TRL 1.16, verl 0.9 and ms-swift 4.6.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from esr.config import Config

ToolName = Literal["trl", "verl", "ms-swift"]


@dataclass(frozen=True)
class ToolConfig:
    """What a tool is given."""

    settings: dict[str, Any]
    """Its own keys."""
    start: str
    """The command that begins the training."""
    differs: list[str]
    """What it does otherwise than `esr`, in sentences."""


def translate(config: Config, tool: ToolName) -> ToolConfig:
    """A run's configuration for another tool. The training prompts are in `prompts.jsonl` (verl: `prompts.parquet`) beside it."""
    return TOOLS[tool](config)


def _trl(config: Config) -> ToolConfig:
    student, rollout = config.student, config.rollout
    settings = {
        "model_name_or_path": student.model,
        "model_revision": student.revision,
        "teacher_model_name_or_path": config.teacher.model,
        "teacher_model_revision": config.teacher.revision,
        "dtype": student.dtype,
        "datasets": [{"path": "json", "data_files": "prompts.jsonl"}],
        "shuffle_dataset": False,
        **_training(config),
        "top_k": rollout.top_k,
    }
    if student.train == "lora":
        settings |= {
            "use_peft": True, "lora_r": student.lora.r, "lora_alpha": int(student.lora.alpha), "lora_dropout": student.lora.dropout,
            "lora_target_modules": listed(student.lora.target_modules),
        }  # fmt: skip
    if student.chat_template_kwargs:
        settings["chat_template_kwargs"] = student.chat_template_kwargs
    differs = _common(config)
    if rollout.temperature != 1:
        differs.append(
            f"TRL takes the divergence at the sampling temperature ({rollout.temperature:g}), esr always at 1; set temperature: 1.0 "
            "there for the same loss, and sample at 1 then."
        )
    differs.append("TRL averages over tokens, esr (sequence_mean) over each response and then over responses.")
    return ToolConfig(settings, "trl distillation --config recipe.yaml", differs)


def _swift(config: Config) -> ToolConfig:
    student, rollout = config.student, config.rollout
    settings = {
        "rlhf_type": "gkd",
        "model": student.model,
        "teacher_model": config.teacher.model,
        "model_revision": student.revision,
        "teacher_model_revision": config.teacher.revision,
        "use_hf": True,
        "torch_dtype": None if student.dtype == "auto" else student.dtype,
        "dataset": ["prompts.jsonl"],
        "dataset_shuffle": False,
        "lmbda": 1.0,
        "sft_alpha": 0.0,
        **_training(config),
        "top_k": rollout.top_k or -1,
        "tuner_type": student.train,
    }
    if student.train == "lora":
        settings |= {
            "lora_rank": student.lora.r, "lora_alpha": int(student.lora.alpha), "lora_dropout": student.lora.dropout,
            "target_modules": listed(student.lora.target_modules),
        }  # fmt: skip
    differs = _common(config)
    if rollout.temperature != 1:
        differs.append(
            f"ms-swift takes the divergence at the sampling temperature ({rollout.temperature:g}), esr always at 1."
        )
    differs.append("ms-swift averages over tokens, esr (sequence_mean) over each response and then over responses.")
    return ToolConfig({k: v for k, v in settings.items() if v is not None}, "swift rlhf recipe.yaml", differs)


def _verl(config: Config) -> ToolConfig:
    student, optim, rollout = config.student, config.optim, config.rollout
    estimator = config.loss.divergence == "reverse_kl"
    loss: dict[str, Any] = {"loss_mode": "k1" if estimator else "forward_kl_topk", "use_policy_gradient": estimator}
    settings = {
        "data": {
            "train_files": "prompts.parquet", "val_files": "prompts.parquet", "train_batch_size": rollout.prompts_per_step,
            "max_prompt_length": config.data.max_prompt_tokens, "max_response_length": rollout.max_new_tokens, "shuffle": False,
        },
        "actor_rollout_ref": {
            "model": {"path": student.model, "lora_rank": 0, "trust_remote_code": student.trust_remote_code},
            "actor": {
                "optim": {"lr": config.lr, "weight_decay": optim.weight_decay, "lr_warmup_steps_ratio": optim.warmup_ratio},
                "grad_clip": optim.clip, "ppo_mini_batch_size": rollout.prompts_per_step, "ppo_epochs": 1, "use_kl_loss": False,
                "use_dynamic_bsz": True,
                "loss_agg_mode": {"sequence_mean": "seq-mean-token-mean", "token_mean": "token-mean", "token_sum": "seq-mean-token-sum"}[
                    config.loss.aggregation
                ],
            },
            "rollout": {
                "name": "vllm", "n": rollout.samples_per_prompt, "temperature": rollout.temperature, "top_p": rollout.top_p,
                "top_k": rollout.top_k or -1,
            },
        },
        "distillation": {
            "enabled": True,
            "distillation_loss": {**loss, "topk": 64, "use_task_rewards": False, "loss_max_clamp": None, "log_prob_min_clamp": None},
            "teacher_models": {
                "teacher_model": {
                    "key": "esr", "model_path": config.teacher.model, "num_replicas": 1, "inference": {"tensor_model_parallel_size": 1},
                },
            },
            "n_gpus_per_node": 1, "nnodes": 1,
        },
        "trainer": {"total_training_steps": optim.steps, "total_epochs": 1, "default_local_dir": "output"},
    }  # fmt: skip
    if student.train == "lora":
        settings["actor_rollout_ref"]["model"] |= {  # type: ignore[index,operator]
            "lora_rank": student.lora.r, "lora_alpha": student.lora.alpha, "target_modules": student.lora.target_modules,
        }  # fmt: skip
    how = (
        "verl has no exact reverse KL: k1 is its estimate from the sampled tokens alone, as a reward of a policy gradient."
        if estimator
        else f"verl has no exact {config.loss.divergence}: forward_kl_topk is the forward KL over the teacher's 64 most probable tokens."
    )
    start = "python -m verl.trainer.main_ppo --config-path $PWD --config-name recipe"
    differs = [how, *_common(config)]
    if student.train == "lora" and student.lora.dropout:
        differs.append(f"verl's adapters have no dropout; esr's had {student.lora.dropout:g}.")
    base = {"defaults": ["ppo_trainer", "_self_"], "hydra": {"searchpath": ["pkg://verl.trainer.config"]}}
    return ToolConfig(base | settings, start, differs)


def listed(modules: str | list[str]) -> list[str]:
    """Module names, or the one word for all of them, as a list."""
    return [modules] if isinstance(modules, str) else modules


def _training(config: Config) -> dict[str, Any]:
    """Keys of transformers' TrainingArguments, and those of generalised distillation that TRL and ms-swift share."""
    optim, rollout = config.optim, config.rollout
    return {
        "max_completion_length": rollout.max_new_tokens,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "beta": {"reverse_kl": 1.0, "forward_kl": 0.0, "jsd": config.loss.beta}[config.loss.divergence],
        "per_device_train_batch_size": rollout.prompts_per_step,
        "gradient_accumulation_steps": rollout.samples_per_prompt,
        "learning_rate": config.lr,
        "lr_scheduler_type": "cosine" if optim.schedule == "cosine" else "constant_with_warmup",
        "warmup_steps": math.ceil(optim.warmup_ratio * optim.steps),
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.clip,
        "max_steps": optim.steps,
        "seed": config.run.seed,
        "output_dir": "output",
    }


def _common(config: Config) -> list[str]:
    """What none of the tools has, of what this configuration uses."""
    loss, rollout = config.loss, config.rollout
    found = ["Random numbers, and so the responses, are others."]
    if loss.merge_terminators:
        found.append(
            "Tokens that end a turn are not one event: where student and teacher end with different ones, every end is punished."
        )
    if loss.selection.by != "all":
        found.append(f"No selection of positions (loss.selection.by: {loss.selection.by}): all of them count.")
    if loss.position_weight.shape != "flat":
        found.append(f"No weights by position (loss.position_weight.shape: {loss.position_weight.shape}).")
    if rollout.horizon.policy != "fixed":
        found.append(f"N is always {rollout.max_new_tokens}: no horizon that changes ({rollout.horizon.policy}).")
    if config.teacher.system_prompt != config.student.system_prompt or config.teacher.prompt:
        found.append("The teacher gets the student's prompt, not one of its own.")
    if config.teacher.adapter or config.student.adapter:
        found.append("Adapters that the models begin with are left out; export them as whole models first.")
    return found


TOOLS: dict[ToolName, Callable[[Config], ToolConfig]] = {"trl": _trl, "verl": _verl, "ms-swift": _swift}


def notes(recipe: ToolConfig, tool: ToolName, name: str) -> str:
    """The README beside a recipe, Markdown."""
    lines = [
        f"# {name} for {tool}",
        "",
        "Written by `esr export`. Begin with:",
        "",
        f"    {recipe.start}",
        "",
        "What is not the same:",
        "",
    ]
    return "\n".join([*lines, *(f"* {sentence}" for sentence in recipe.differs), ""])
