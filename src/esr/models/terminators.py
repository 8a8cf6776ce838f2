"""The tokens that end a turn: one reader for rollouts, evaluations and exports."""

from collections.abc import Iterable
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from esr.config import ModelConfig
from esr.errors import UserError
from esr.models import template
from esr.models.load import load_generation_config, loading, location


def of_model(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> tuple[int, ...]:
    """Every token that ends this model's turn, ascending, by all that its files say. Raises `UserError` if there is none."""
    stated: dict[str, Any] = {"generation_config.json": load_generation_config(config).eos_token_id}
    if not config.gguf_file:
        with loading(config, config.model):
            files, _ = PretrainedConfig.get_config_dict(location(config.model), revision=config.revision)
        stated["config.json"] = [
            *listed(files.get("eos_token_id")),
            *listed((files.get("text_config") or {}).get("eos_token_id")),
        ]
    return terminators(tokenizer, config, stated)


def terminators(
    tokenizer: PreTrainedTokenizerBase, config: ModelConfig, stated: dict[str, Any] | None = None
) -> tuple[int, ...]:
    """The tokenizer's end token, those `stated` by other files, and the special token after an assistant's message.

    Raises `UserError` if there is none (nothing could then end a response), or if one of them is no token.
    """
    found: set[int] = set()
    known = set(tokenizer.get_vocab().values())
    for source, ids in {"its tokenizer": tokenizer.eos_token_id, **(stated or {})}.items():
        for i in listed(ids):
            if isinstance(i, bool) or not isinstance(i, int) or i not in known:
                raise UserError(
                    f"{config.model}: by {source}, {i!r} ends a turn, but the tokenizer has no such token; correct eos_token_id there."
                )
            found.add(i)
    found |= set(listed(_turn_end(tokenizer, config)))
    if not found:
        raise UserError(
            f"{config.model}: no end-of-turn token in its tokenizer or generation config; set `eos_token` there."
        )
    return tuple(sorted(found))


def listed(ids: Any) -> Iterable[Any]:
    """One id, several, or none, as a list."""
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _turn_end(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> int | None:
    """The special token right after an assistant's message in the chat template."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "esr-turn-probe"}]
    try:
        text = template.render(tokenizer, config, messages, prompt=False)
    except template.ERRORS:
        return None
    _, probe, tail = text.rpartition("esr-turn-probe")
    after = tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"] if probe else []
    return after[0] if after and after[0] in template.control_ids(tokenizer) else None
