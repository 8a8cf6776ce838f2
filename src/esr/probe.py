"""A few padded rows through every path that claims to be the same model: a difference is refused, with its size."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from esr.config import ModelConfig, StudentConfig
from esr.errors import UserError
from esr.memory import out_of_memory
from esr.method.tensors import Prompts, Rollout
from esr.models import places
from esr.models.adapters import fresh_adapter
from esr.models.head import head
from esr.models.lm import LM
from esr.models.load import loading, read_config
from esr.models.same import distance, tolerance
from esr.sampling.cache import new_cache
from esr.sampling.forward import forward
from esr.sampling.packed import decoding
from esr.scoring import hidden_states

PROMPTS, RESPONSE = (3, 7), 4
"""Prompt lengths of the rows, and the length of their responses."""
APART = (AttributeError, KeyError, TypeError, IndexError)
"""What an architecture raises that cannot be taken apart."""


def before_loading(config: ModelConfig) -> None:
    """Raise `UserError` if the architecture cannot be run in parts, or takes no adapter. Loads no weights; seconds."""
    if config.gguf_file:
        return
    settings = read_config(config)
    with loading(config, config.model), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, trust_remote_code=config.trust_remote_code)
    require_own_name(model, config)
    lm = LM(model.eval(), None, config, (), at=torch.device("meta"))  # type: ignore[arg-type]
    try:
        width = model.get_output_embeddings().weight.shape[1]
        head(lm, torch.zeros(2, width, device="meta", dtype=model.dtype))
    except APART as error:
        raise _inseparable(config.model, error) from None
    if isinstance(config, StudentConfig) and config.train == "lora" and not config.adapter:
        with torch.device("meta"):
            fresh_adapter(model, config, 0)


def require_own_name(model: nn.Module, config: ModelConfig) -> None:
    """Raise `UserError` if transformers could not load the text part of a model again, once it is written by itself."""
    settings = model.config
    if type(settings).__module__.startswith("transformers.") and type(settings) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"{config.model}: transformers cannot load its text part ({type(model).__name__}) by itself, so that what is "
            "trained could not be exported; not supported."
        )


def _inseparable(model: str, error: Exception) -> UserError:
    return UserError(f"{model}: its architecture has no separable backbone and head ({error}).")


@torch.no_grad()
def check(lm: LM) -> None:
    """Raise `UserError` unless scoring and decoding, padded, give what the model's own forward gives without padding."""
    training = lm.module.training
    lm.module.eval()
    try:
        own = logits(lm)
        if not own.isfinite().any(-1).all():
            raise UserError(f"{lm.config.model}: its own forward gives no numbers (NaN); its weights are damaged.")
        # Layers that are rounded round what goes through them too, batch by batch.
        allowed = tolerance(torch.bfloat16 if places.rounded(lm.config) else own.dtype)
        for name, path in (("scoring", scored), ("decoding", _decoded)):
            require_same(own, path(lm), lm.config.model, f"{name} differs from the model's own forward", allowed)
    except APART as error:
        raise _inseparable(lm.config.model, error) from None
    except (ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{lm.config.model}: its architecture cannot be run from a cache ({reason}).") from None
    finally:
        lm.module.train(training)


def require_same(own: Tensor, found: Tensor, model: str, what: str, allowed: float | None = None) -> None:
    """Raise `UserError` if (M, V) logits are not the same to rounding, or to so many nats; `what` says whose they are."""
    apart = distance(own, found)
    if not apart <= (tolerance(own.dtype) if allowed is None else allowed):
        raise UserError(
            f"{model}: {what} by {apart:.2g} nats a token, so that it would not be the same model; not supported."
        )


def _rows(lm: LM) -> tuple[Prompts, Rollout]:
    """Two prompts of different lengths, padded on the left, with a response each."""
    width = max(PROMPTS)
    ids = 1 + torch.arange(2 * (width + RESPONSE), device=lm.device).view(2, -1) * 7 % (lm.vocab_size - 1)
    mask = torch.arange(width, device=lm.device) >= width - torch.tensor(PROMPTS, device=lm.device)[:, None]
    prompts = Prompts(ids[:, :width].masked_fill(~mask, 0), mask)
    response = ids[:, width:]
    return prompts, Rollout(response, torch.ones_like(response, dtype=torch.bool), ids.new_zeros(2))


def logits(lm: LM) -> Tensor:
    """(M, V) logits of the probe's response tokens by the model's own forward, adapters included, each row alone."""
    prompts, rollout = _rows(lm)
    rows = zip(prompts.ids, prompts.mask, rollout.response_ids, strict=True)
    with lm.running():
        return torch.cat([_alone(lm, torch.cat([ids[mask], response])) for ids, mask, response in rows])


def _alone(lm: LM, ids: Tensor) -> Tensor:
    return lm.module(input_ids=ids[None], use_cache=False).logits[0, -RESPONSE - 1 : -1]


def scored(lm: LM) -> Tensor:
    return head(lm, hidden_states(lm, *_rows(lm)))


def _decoded(lm: LM) -> Tensor:
    with decoding(lm):
        return torch.stack(list(_steps(lm, *_rows(lm))), dim=1).flatten(0, 1)


def _steps(lm: LM, prompts: Prompts, rollout: Rollout) -> Iterator[Tensor]:
    """(B, V) logits before each response token, from a cache."""
    cache, mask, ids = new_cache(lm, prompts.ids.shape[1] + RESPONSE), prompts.mask, prompts.ids
    for t in range(RESPONSE):
        yield forward(lm, ids, mask, cache)
        ids, mask = rollout.response_ids[:, t : t + 1], torch.cat([mask, mask[:, -1:]], dim=1)
