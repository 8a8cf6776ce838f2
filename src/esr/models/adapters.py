"""LoRA adapters: a fresh one where gradients reach it, and whether a file's weights are the ones that an adapter has."""

import re
from collections.abc import Iterator, Sequence

import peft
import torch
from torch import Tensor, nn

from esr.config import StudentConfig
from esr.errors import UserError
from esr.models.lm import STUDENT, backbone_name
from esr.models.quiet import quiet


def same_tensors(wanted: dict[str, Tensor], found: dict[str, Tensor], where: str) -> None:
    """Raise `UserError` unless both have the same names and shapes."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (wanted, found)]
    differing = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
    if differing:
        raise UserError(f"{where}: its weights are not this model's (they differ in {few(differing)}).")


def few(names: Sequence[str]) -> str:
    """`a, b, c and 7 more weights`."""
    more = f" and {len(names) - 3} more weights" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def adapter_tensors(module: nn.Module, name: str) -> dict[str, Tensor]:
    """An adapter's weights by the names that its file has."""
    return peft.get_peft_model_state_dict(module, adapter_name=name, save_embedding_layers=False)  # type: ignore


@torch.no_grad()
def fill(module: nn.Module, name: str, state: dict[str, Tensor], where: str) -> None:
    """Put a file's tensors into an adapter by the names that they have there; PEFT's own loading renames and loses some.

    Raises `UserError` unless they are exactly the adapter's.
    """
    own = adapter_tensors(module, name)
    same_tensors(own, state, where)
    for key, tensor in own.items():
        tensor.copy_(state[key])


@quiet()
def fresh_adapter(module: nn.Module, config: StudentConfig, seed: int) -> nn.Module:
    """`module` with a new LoRA adapter on its text layers: others, such as a vision tower's, would never get a gradient."""
    lora = config.lora
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=_out_of_reach(module),
    )
    torch.manual_seed(seed)
    try:
        adapted = peft.get_peft_model(module, settings, adapter_name=STUDENT)  # type: ignore[arg-type]
    except (ValueError, TypeError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:200].rstrip(".")
        remedy = "set student.lora.dropout=0" if "dropout" in text else "choose other student.lora.target_modules"
        raise UserError(f"{config.model}: LoRA does not fit this model ({text}); {remedy}.") from None
    _require_all(lora.target_modules, adapted.targeted_module_names)
    _require_own(config.model, adapted)
    return adapted


def _require_own(model: str, adapted: nn.Module) -> None:
    """Raise `UserError` if two layers that got an adapter each have the same weights: no merged model could hold both."""
    seen: set[int] = set()
    for name, layer in adapted.named_modules():
        if isinstance(layer, peft.tuners.lora.Linear):
            if id(layer.weight) in seen:
                raise UserError(
                    f"{model}: {name.removeprefix('base_model.model.')} shares its weights with another layer, so that adapters on "
                    "them cannot be merged; leave such layers out of student.lora.target_modules, or set student.train=full."
                )
            seen.add(id(layer.weight))


def _require_all(wanted: str | list[str], found: list[str]) -> None:
    """Raise `UserError` if a name in a list of `target_modules` is no module's; PEFT passes over it."""
    names = [] if isinstance(wanted, str) else wanted
    missing = [name for name in names if not any(f".{module}".endswith(f".{name}") for module in found)]
    if missing:
        raise UserError(
            f"student.lora.target_modules names {', '.join(missing)}, which this model does not have; remove that, or correct it."
        )


def _out_of_reach(model: nn.Module) -> str | None:
    """A pattern of the modules that get no adapter: no part of the text model, read by a state-space layer's kernel, or a
    router that is a linear layer and returns more than a product.

    None if there is none.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    text = model.get_decoder()  # type: ignore[operator]
    if text is model or text is head:  # as transformers says where it knows no better
        text = getattr(model, backbone_name(model))

    def beside(module: nn.Module, prefix: str) -> Iterator[str]:
        for name, child in module.named_children():
            if child is not text:
                inside = any(part is text for part in child.modules())
                yield from beside(child, f"{prefix}{name}.") if inside else [prefix + name]

    names = [re.escape(name) for name in beside(model, "") if model.get_submodule(name) is not head]
    for name, module in model.named_modules():
        if hasattr(module, "ssm_state_size"):
            layer = re.sub(r"\d+", r"\\d+", re.escape(name))
            names += [f"{layer}\\.{part}" for part in ("conv1d", "out_proj")]
        if isinstance(module, nn.Linear) and type(module).__name__.endswith("Router"):
            names.append(re.sub(r"\d+", r"\\d+", re.escape(name)))
    return rf"({'|'.join(dict.fromkeys(names))})(\..*)?" if names else None
