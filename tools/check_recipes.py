"""Have verl and ms-swift read what `esr export --to verl|ms-swift` writes, with their own configuration classes.

    python tools/check_recipes.py .venv-recipes      # filled by `make recipes`: a folder for each tool

verl: Hydra composes the recipe over verl's own defaults, and the dataclasses of its trainer are made from it. ms-swift: its command
line reads the file, and its argument class is made from that. Both look at the models, for which tiny ones of Qwen3's kind stand in.
Nothing is trained. TRL's parser reads its recipe in `tests/test_trl.py`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from esr.config import Config
from esr.models.load import location
from esr.runs.recipes import translate

MODELS = ("Qwen3-0.6B", "Qwen3-1.7B")
"""Names by which a tool may know a model."""
SHAPE = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936, "hidden_size": 64, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "dtype": "bfloat16",
}  # fmt: skip


def stand_in(folder: Path) -> str:
    """A model directory without weights, with the tokenizer of a lab model."""
    shutil.copytree(location("lab:student-2"), folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    (folder / "config.json").write_text(json.dumps(SHAPE))
    return str(folder)


def configurations() -> list[Config]:
    """With every divergence, and with all weights trained."""
    student, teacher = (stand_in(Path(name).absolute()) for name in MODELS)
    sides = {"student": {"model": student}, "teacher": {"model": teacher}, "data": {"source": "x.jsonl"}}
    rest = {"rollout": {"max_new_tokens": 77, "temperature": 0.6}, "optim": {"lr": 3e-5, "steps": 55}}
    found = [{**sides, **rest, "loss": {"divergence": d}} for d in ("reverse_kl", "forward_kl", "jsd")]
    return [
        Config.model_validate(tree) for tree in (*found, {**found[0], "student": {"model": student, "train": "full"}})
    ]


def verl(config: Config) -> dict[str, Any]:
    """What verl's trainer would have."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from verl.utils.config import omega_conf_to_dataclass

    with initialize_config_dir(os.getcwd(), version_base=None):
        whole = compose("recipe")
    OmegaConf.resolve(whole)
    parts = ("actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model", "distillation")
    actor, rollout, model, distillation = (omega_conf_to_dataclass(OmegaConf.select(whole, part)) for part in parts)
    (teacher,) = distillation.teacher_models.values()
    return {
        "read by": [type(part).__name__ for part in (actor, rollout, model, distillation)],
        "student": model.path, "teacher": teacher.model_path, "n": rollout.response_length, "temperature": rollout.temperature,
        "lr": actor.optim.lr, "steps": whole.trainer.total_training_steps, "rank": model.lora_rank,
    }  # fmt: skip


def ms_swift(config: Config) -> dict[str, Any]:
    """What ms-swift's trainer would have."""
    from swift.arguments import RLHFArguments
    from swift.cli.main import parse_yaml_args
    from swift.utils import parse_args

    words = ["recipe.yaml"]
    parse_yaml_args(words)
    read, unknown = parse_args(RLHFArguments, words)
    if unknown:
        raise SystemExit(f"ms-swift knows no {unknown}")
    return {
        "read by": [type(read).__name__],
        "student": read.model, "teacher": read.teacher_model, "n": read.max_completion_length, "temperature": read.temperature,
        "lr": read.learning_rate, "steps": read.max_steps, "rank": read.lora_rank if read.tuner_type == "lora" else 0,
    }  # fmt: skip


TOOLS: dict[str, Callable[[Config], dict[str, Any]]] = {"verl": verl, "ms-swift": ms_swift}


def check(tool: str) -> None:
    """Raise `AssertionError`, or whatever the tool raises, unless it reads what was written."""
    for config in configurations():
        here = {"use_cpu": True} if tool == "ms-swift" else {}  # it looks for a GPU
        Path("recipe.yaml").write_text(yaml.safe_dump(translate(config, tool).settings | here))  # type: ignore[arg-type]
        Path("prompts.jsonl").write_text('{"messages": [{"role": "user", "content": "2 + 2?"}]}\n')
        rank = config.student.lora.r if config.student.train == "lora" else 0
        wanted = {
            "student": config.student.model, "teacher": config.teacher.model, "n": 77, "temperature": 0.6, "lr": 3e-5, "steps": 55,
            "rank": rank,
        }  # fmt: skip
        found = TOOLS[tool](config)
        names = found.pop("read by")
        assert found == wanted, f"{found} instead of {wanted}"
        print(f"{tool}: {config.loss.divergence}, {config.student.train}: read by {', '.join(names)}", flush=True)


def main() -> None:
    home, *asked = sys.argv[1:]
    if asked:
        check(*asked)
        return
    codes = []
    for tool in TOOLS:
        path = os.pathsep.join([str(Path(home, tool).absolute()), *sys.path[1:]])
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
            command = [sys.executable, str(Path(__file__).absolute()), home, tool]
            done = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{tool}: " + "\n".join(done.stderr.strip().splitlines()[-4:]))
        codes.append(done.returncode)
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
