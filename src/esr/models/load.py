"""Loading student and teacher: hub ids, local directories, GGUF files, adapters, and the lab's models."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import peft
import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from esr.config import ModelConfig, StudentConfig
from esr.console import say
from esr.errors import UserError
from esr.models import dropout, hub, places
from esr.models.adapters import few, fill, fresh_adapter
from esr.models.lm import LM, STUDENT, TEACHER, resolve_dtype
from esr.models.quiet import quiet
from esr.models.unsupported import require_supported


def location(ref: str) -> str:
    """A model reference as something transformers can load. Raises `UserError` if a local directory is missing."""
    if ref.startswith("lab:"):
        home = Path(str(resources.files("esr"))) / "lab" / "models"
        if not (home / ref[4:] / "config.json").exists():
            names = ", ".join(sorted(p.parent.name for p in home.glob("*/config.json"))) or "none"
            raise UserError(f"{ref}: no such lab model (there are: {names}).")
        return str(home / ref[4:])
    path = Path(ref).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise UserError(f"{ref} is a file; give the directory it lies in, with `gguf_file:` if it is a GGUF file.")
    if ref.count("/") != 1 or ref.startswith((".", "~", "/")):
        raise UserError(f"{ref}: no such model directory, and not a hub id (owner/name).")
    return ref


def _of_cache(file: str | None) -> bool:
    """Whether a file lies in the cache of models and their code, or on the way to it."""
    cache = Path(HF_HOME)
    return file is not None and (Path(file).is_relative_to(cache) or Path(file) in cache.parents)


@contextlib.contextmanager
def loading(config: ModelConfig, what: str) -> Iterator[None]:
    """Load from hub or disk inside this: a hub out of reach is noticed at once, and errors become one sentence."""
    away = "" if Path(location(config.model)).is_dir() else hub_trouble(config.model)
    try:
        with hub.patient(away), quiet():
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        if hub.gated(error):
            raise UserError(f"{what}: gated; ask for access on its page, then run `hf auth login`.") from None
        if away:
            text = f"the hub cannot be reached ({away}) and there is no cached copy; give a local directory instead"
        elif isinstance(error, OSError) and _of_cache(error.filename):
            text += "; set HF_HOME to a directory that can be written to"
        raise UserError(f"{what}: cannot be loaded ({text}).") from None


@functools.cache
def hub_trouble(name: str) -> str:
    """`hub.trouble` of a model, asked once."""
    return hub.trouble("model", name)


def _source(config: ModelConfig) -> dict[str, Any]:
    source: dict[str, Any] = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    if config.gguf_file:
        source["gguf_file"] = config.gguf_file
    return source


def check(config: ModelConfig) -> None:
    """Fail within seconds if the model's configuration cannot be had, or its architecture cannot be used. Loads no weights."""
    places.check(config)
    path = location(config.model)
    if Path(path).is_dir():
        wanted = config.gguf_file or "config.json"
        if not (Path(path) / wanted).exists():
            raise UserError(f"{config.model}: the directory holds no {wanted}, so it is not a model directory.")
    if config.adapter and Path(config.adapter).is_dir() and not (Path(config.adapter) / "adapter_config.json").exists():
        raise UserError(f"{config.adapter}: the directory holds no adapter_config.json, so it is not a PEFT adapter.")
    if not config.gguf_file:
        require_supported(config.model, read_config(config))


def read_config(config: ModelConfig) -> PretrainedConfig:
    """The model's configuration."""
    with loading(config, config.model):
        return AutoConfig.from_pretrained(location(config.model), **_source(config))


def on_meta(config: ModelConfig, dtype: torch.dtype | None = None) -> nn.Module:
    """The model without its weights: shapes only, in no memory."""
    settings = read_config(config)
    options: dict[str, Any] = {"dtype": dtype} if dtype else {}
    if config.attention:
        options["attn_implementation"] = config.attention
    with loading(config, config.model), torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings, trust_remote_code=config.trust_remote_code, **options)


def shapes(student: StudentConfig, teacher: ModelConfig, device: torch.device) -> tuple[LM, LM]:
    """Both models as `load_student` and `load_teacher` would give them on `device`, without weights and tokenizers."""
    types = [resolve_dtype(side, device) for side in (student, teacher)]
    full = student.train == "full"
    with torch.device("meta"):
        module = on_meta(student, torch.float32 if full else types[0]).eval().requires_grad_(full)
        if not full:
            module = _adapter_on_meta(module, student) if student.adapter else fresh_adapter(module, student, 0)
        codes = dropout.install(module)
        autocast = types[0] if full and types[0] != torch.float32 else None
        ours = LM(module, None, student, (), None if full else STUDENT, autocast, codes)  # type: ignore[arg-type]
        if shares_base(teacher, student):
            return ours, replace(ours, config=teacher, adapter=None)
        return ours, LM(on_meta(teacher, types[1]).eval().requires_grad_(False), None, teacher, ())  # type: ignore[arg-type]


def _adapter_on_meta(module: nn.Module, config: StudentConfig) -> nn.Module:
    assert config.adapter is not None
    with loading(config, f"adapter {config.adapter}"):
        settings = peft.PeftConfig.from_pretrained(config.adapter)
    settings.inference_mode = False
    return peft.get_peft_model(module, settings, adapter_name=STUDENT)  # type: ignore[arg-type,return-value]


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    with loading(config, f"tokenizer of {config.model}"):
        return AutoTokenizer.from_pretrained(location(config.model), **_source(config))


def base_file(config: ModelConfig, name: str) -> Path | None:
    """A file that the model ships, or None. Raises `UserError` if the network leaves open whether it does."""
    path = location(config.model)
    if Path(path).is_dir():
        return Path(path) / name if (Path(path) / name).is_file() else None
    return hub.file(path, name, config.revision, hub_trouble(path))


def load_generation_config(config: ModelConfig) -> GenerationConfig:
    """The model's generation defaults, empty if it ships none; only its terminators are used."""
    file = base_file(config, "generation_config.json")
    if file is None:
        return GenerationConfig()
    with loading(config, f"{config.model}: generation_config.json"):
        return GenerationConfig.from_pretrained(file.parent)


def load_weights(config: ModelConfig, device: torch.device, dtype: torch.dtype | str) -> nn.Module:
    """The bare transformers model, in evaluation mode and frozen. Safetensors (or GGUF) only, never pickles.

    Raises `UserError` if the files lack a weight of the model: transformers would draw it at random.
    """
    options: dict[str, Any] = {**_source(config), "dtype": dtype, "output_loading_info": True}
    if config.attention:
        options["attn_implementation"] = config.attention
    if not config.gguf_file:
        options["use_safetensors"] = True
    options |= places.options(config, device, dtype)
    with loading(config, config.model):
        model, report = AutoModelForCausalLM.from_pretrained(location(config.model), **options)
    lost = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lost:
        raise UserError(f"{config.model}: its files lack {few(lost)}; it is not a complete {type(model).__name__}.")
    if report["unexpected_keys"]:
        say(f"{config.model}: not used by {type(model).__name__}: {few(sorted(report['unexpected_keys']))}.")
    if config.gguf_file:
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return places.put(model, config, device).eval().requires_grad_(False)


def put_on(module: nn.Module, config: ModelConfig, name: str, trainable: bool = False) -> nn.Module:
    """`module` with the adapter of `config` on it under `name`; every one of its weights must find its place.

    Raises `UserError` for adapters that add to the prompt: they have no weights in the layers, so that neither scoring nor
    decoding would see them.
    """
    assert config.adapter is not None
    with loading(config, f"adapter {config.adapter}"):
        settings = peft.PeftConfig.from_pretrained(config.adapter)
        if settings.is_prompt_learning:
            raise UserError(
                f"{config.adapter}: {settings.peft_type.value.replace('_', ' ').lower()} adapters are not supported; "
                "use one that changes the layers, such as LoRA."
            )
        state = peft.load_peft_weights(config.adapter, device="cpu")
        if isinstance(module, peft.PeftModel):
            module.load_adapter(config.adapter, adapter_name=name, is_trainable=trainable)
        else:
            module = peft.PeftModel.from_pretrained(module, config.adapter, adapter_name=name, is_trainable=trainable)  # type: ignore
    fill(module, name, state, f"adapter {config.adapter}")
    return module


def load_model(config: ModelConfig, device: torch.device, terminators: tuple[int, ...]) -> LM:
    """A frozen model, with its adapter if it has one; a teacher where it is placed."""
    device = places.device_of(config, device)
    module = load_weights(config, device, resolve_dtype(config, device))
    if config.adapter:
        module = put_on(module, config, TEACHER).requires_grad_(False).eval()
    adapter, at = TEACHER if config.adapter else None, device if places.placement(config) == "offloaded" else None
    return LM(module, load_tokenizer(config), config, terminators, adapter, at=at)


def load_student(config: StudentConfig, device: torch.device, terminators: tuple[int, ...], seed: int) -> LM:
    """The trainable student.

    LoRA: a fresh adapter (its initial weights drawn with `seed`) or the given one, in float32 on frozen weights.
    Full fine-tuning: float32 master weights; a 16-bit `dtype` then means autocast.
    """
    dtype = resolve_dtype(config, device)
    full = config.train == "full"
    if full and config.dtype == "auto" and dtype == torch.float16:
        dtype = torch.float32  # small gradients of float16 would be lost: there is no loss scaling
    module = load_weights(config, device, torch.float32 if full else dtype)
    if full:
        if config.adapter:
            module = put_on(module, config, STUDENT).merge_and_unload()  # type: ignore[operator]
        dropout.install(module.requires_grad_(True))
        return LM(module, load_tokenizer(config), config, terminators, None, None if dtype == torch.float32 else dtype)
    module = put_on(module, config, STUDENT, trainable=True) if config.adapter else fresh_adapter(module, config, seed)
    codes = dropout.install(module)
    return LM(module.eval(), load_tokenizer(config), config, terminators, STUDENT, dropout=codes)


def load_teacher(config: ModelConfig, student: LM, device: torch.device, terminators: tuple[int, ...]) -> LM:
    """The frozen teacher. One that is the student's own base, or an adapter on it, shares the student's weights."""
    if not shares_base(config, student.config):
        return load_model(config, device, terminators)
    if config.adapter:
        put_on(student.module, config, TEACHER)
    return LM(student.module, load_tokenizer(config), config, terminators, TEACHER if config.adapter else None)


def shares_base(teacher: ModelConfig, student: ModelConfig) -> bool:
    """Whether both are the same frozen weights (adapters apart): then they are not loaded twice, wherever a teacher would be."""
    same = ("model", "revision", "gguf_file", "dtype", "attention", "trust_remote_code")
    frozen = isinstance(student, StudentConfig) and student.train == "lora"
    return (
        frozen
        and not places.rounded(teacher)
        and all(getattr(teacher, name) == getattr(student, name) for name in same)
    )
