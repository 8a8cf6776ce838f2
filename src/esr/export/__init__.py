"""A trained student as a model directory that plain transformers (4 and 5), PEFT and others load, with a model card.

What the base model ships is copied, not written anew: tokenizer files and config.json stay as its other readers know them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from esr import probe
from esr.config import Config, ModelConfig, StudentConfig
from esr.console import say
from esr.errors import UserError
from esr.export.card import card, hub_id
from esr.models import checkpoint, terminators
from esr.models.lm import LM
from esr.models.load import base_file, load_generation_config, load_student, load_weights, loading, read_config
from esr.models.quiet import quiet
from esr.pair import open_pair
from esr.runs.files import new_directory, write_json, write_text
from esr.runs.rundir import RunDir
from esr.runs.trust import require_trust

CPU = torch.device("cpu")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
OF_THIS_MACHINE = {"_name_or_path", "is_local", "local_files_only", "name_or_path"}
"""Keys that say where files lay when they were written."""


def export(run: RunDir, target: Path, step: int | None, kind: str) -> Path:
    """Write the student of `step` (default: the last checkpoint) to `target`, whole or not at all.

    `kind`: `merged` is a full model, `adapter` a PEFT adapter. What was written is loaded again and compared with the run's
    own student. Raises `UserError` if that cannot be had.
    """
    if target.exists():
        raise UserError(f"{target} exists already; choose another directory.")
    config = require_trust(run.config(), run.path)
    saved = run.find_checkpoint(step)
    if kind == "adapter" and not (saved / "adapter").exists():
        raise UserError(f"{run.path} trained the full model, so there is no adapter to export; leave out --adapter.")
    settings = config.student.model_copy(update={"dtype": base_dtype(config.student)})
    student = load_student(settings, CPU, (), config.run.seed)
    checkpoint.load_weights(student, saved)
    with new_directory(target) as folder:
        with torch.no_grad():
            own = probe.logits(student)
        if kind == "adapter":
            write_adapter(saved / "adapter", folder, base_of_record(config.student))
        else:
            write_model(student, settings, folder, end_tokens(config, student))
        write_tokenizer(student, folder)
        del student
        probe.require_same(
            own, reloaded(folder, settings, kind), str(target), "the exported model differs from the run's student"
        )
        write_text(
            folder / "README.md",
            card(without_paths(config), run.evaluations(), saved.name, kind == "adapter", target.name),
        )
    return target


def base_dtype(config: ModelConfig) -> str:
    """The type of the base model's own weights; float32 if it is not said, or for a GGUF file."""
    stated = None if config.gguf_file else getattr(read_config(config), "dtype", None)
    name = str(stated or torch.float32).removeprefix("torch.")
    return name if name in ("float32", "bfloat16", "float16") else "bfloat16"


def base_of_record(config: ModelConfig) -> str | None:
    """The base model's name on the hub: its reference, or what a local directory says it was made from; None if unknown."""
    if (named := hub_id(config.model)) is not None:
        return named
    file = None if config.model.startswith("lab:") else base_file(config, "config.json")
    made_from = json.loads(file.read_text(encoding="utf-8")).get("_name_or_path") if file else None
    return hub_id(made_from) if isinstance(made_from, str) else None


def without_paths(config: Config) -> Config:
    """The configuration for a card: models and data by their names, not by where they lie here."""
    sides = {
        who: side.model_copy(update={"model": base_of_record(side) or Path(side.model).name})
        for who, side in (("student", config.student), ("teacher", config.teacher))
        if Path(side.model).is_dir()
    }
    source = config.data.source
    data = config.data.model_copy(update={"source": Path(source).name if Path(source).exists() else source})
    return config.model_copy(update={**sides, "data": data})


def end_tokens(config: Config, student: LM) -> tuple[int, ...]:
    """Where the run's responses ended: the terminators of both sides, or the student's alone if the teacher is gone."""
    try:
        return open_pair(config).terminators
    except UserError as error:
        say(f"The teacher's end tokens are not known ({error}); the export names the student's.")
        return terminators.of_model(student.tokenizer, config.student)


def write_adapter(saved: Path, folder: Path, base: str | None) -> None:
    """The adapter's files, with the base model's name on the hub instead of a path here."""
    for file in saved.iterdir():
        shutil.copyfile(file, folder / file.name)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    write_json(folder / "adapter_config.json", {**settings, "base_model_name_or_path": base})


def write_model(student: LM, config: StudentConfig, folder: Path, ends: tuple[int, ...]) -> None:
    """The merged weights in the base model's type, its configuration, and every token that ends a turn."""
    untied(student.causal_lm)
    module: Any = student.module
    if isinstance(module, peft.PeftModel):
        module = module.merge_and_unload()
    module = module.to(getattr(torch, config.dtype))
    with quiet():
        module.save_pretrained(folder)
    generation = load_generation_config(config)
    generation.eos_token_id = list(ends)
    generation.save_pretrained(folder)
    shipped = None if config.gguf_file else base_file(config, "config.json")
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = json.loads(shipped.read_text(encoding="utf-8")) if shipped else written
    settings["tie_word_embeddings"] = written.get("tie_word_embeddings", settings.get("tie_word_embeddings", True))
    write_json(folder / "config.json", readable(settings, config.dtype))
    if shipped and "auto_map" in settings:
        for file in shipped.parent.glob("*.py"):
            shutil.copyfile(file, folder / file.name)


def untied(model: nn.Module) -> None:
    """Give an adapted head that shares its weight with the embeddings a weight of its own: merging would change both."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    parts = [part.base_layer if hasattr(part, "base_layer") else part for part in (head, embeddings)]
    if parts != [head, embeddings] and parts[0].weight is parts[1].weight:
        parts[0].weight = nn.Parameter(parts[0].weight.detach().clone())
        model.config.tie_word_embeddings = False  # type: ignore[union-attr]


def readable(settings: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json for transformers 4 and 5: both spellings of rope and of the type, nothing of this machine."""
    settings = {key: value for key, value in settings.items() if key not in OF_THIS_MACHINE | {"quantization_config"}}
    settings |= {"dtype": dtype, "torch_dtype": dtype}
    for part in (settings, *(value for value in settings.values() if isinstance(value, dict))):
        rope = part.get("rope_parameters")
        if isinstance(rope, dict) and "rope_theta" in rope:
            part.setdefault("rope_theta", rope["rope_theta"])
            if rope.get("rope_type", "default") != "default":
                part.setdefault("rope_scaling", {k: v for k, v in rope.items() if k != "rope_theta"})
    return settings


def write_tokenizer(student: LM, folder: Path) -> None:
    """The base model's tokenizer files as they are; written anew only for a GGUF file."""
    if student.config.gguf_file:
        student.tokenizer.save_pretrained(str(folder))
    else:
        for name in TOKENIZER_FILES:
            if (file := base_file(student.config, name)) is not None:
                shutil.copyfile(file, folder / name)
    settings_file = folder / "tokenizer_config.json"
    if settings_file.exists():
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
        kept = {key: value for key, value in settings.items() if key not in OF_THIS_MACHINE}
        # What transformers 5 writes under other names than version 4 reads; 5 reads both.
        if kept.get("tokenizer_class") == "TokenizersBackend":
            kept["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(kept.get("extra_special_tokens"), list):
            kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
        if kept != settings:
            write_json(settings_file, kept)


def reloaded(folder: Path, config: StudentConfig, kind: str) -> Tensor:
    """The probe's logits by the exported directory, loaded as anyone would."""
    with loading(config, f"the exported {kind}"):
        if kind == "adapter":
            base = load_weights(config.model_copy(update={"adapter": None}), CPU, getattr(torch, config.dtype))
            module: Any = peft.PeftModel.from_pretrained(base, str(folder))  # type: ignore[arg-type]
        else:
            options = {"dtype": getattr(torch, config.dtype), "trust_remote_code": config.trust_remote_code}
            module, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
            if report["missing_keys"]:
                raise ValueError(f"it lacks {', '.join(sorted(report['missing_keys'])[:3])}")
    adapter = "default" if kind == "adapter" else None
    with torch.no_grad():
        return probe.logits(LM(module.eval(), None, config, (), adapter))  # type: ignore[arg-type]
