"""Two models' next-token distributions at the response positions, and nowhere else.

The causal shift lives here, once: the hidden state at position i predicts token i + 1. A model is run up to its last
hidden states; its head is applied to chunks of positions, so that no (B, T, V) tensor is ever held.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from esr.errors import UserError
from esr.method.divergence import Divergence, entropy, reverse_kl
from esr.method.events import EventSpace
from esr.method.tensors import PositionStats, Prompts, Rollout, concat_stats
from esr.models.lm import LM

CHUNK_ELEMENTS = 2**24
"""Logits (positions x V) held at once for each model: 64 MiB in float32."""


def hidden_states(lm: LM, prompts: Prompts, rollout: Rollout) -> Tensor:
    """(M, D) hidden states that predict the M real response tokens, in row-major order of `rollout.response_mask`.

    Gradient flows if the model is trained and gradients are enabled.
    """
    ids = torch.cat([prompts.ids, rollout.response_ids], dim=1)
    mask = torch.cat([prompts.mask, rollout.response_mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    backbone = lm.causal_lm.base_model
    with lm.running():
        out = backbone(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)  # type: ignore[operator]
    start = prompts.ids.shape[1] - 1
    return out.last_hidden_state[:, start:-1][rollout.response_mask]


class _Given(nn.Module):
    """Stands in for a backbone whose last hidden states are known already."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden

    def forward(self, *args: object, **kwargs: object) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.hidden)  # type: ignore[arg-type]


def head(lm: LM, hidden: Tensor) -> Tensor:
    """(M, V) logits of (M, D) hidden states, through the model's own head.

    The model's own forward runs with its backbone replaced by the given states, so soft-capping, logit scaling and the
    like are whatever the architecture does.
    """
    model = lm.causal_lm
    prefix = str(model.base_model_prefix)
    backbone = model._modules[prefix]
    with lm.running():
        model._modules[prefix] = _Given(hidden[None])
        try:
            return model(input_ids=hidden.new_zeros(1, hidden.shape[0], dtype=torch.long), use_cache=False).logits[0]
        finally:
            model._modules[prefix] = backbone


@torch.no_grad()
def check_head(lm: LM) -> None:
    """Raise `UserError` unless hidden states and head, taken apart, give the model's own logits."""
    ids = torch.arange(1, 9, device=lm.device)[None] % lm.vocab_size
    prompts = Prompts(ids[:, :4], torch.ones_like(ids[:, :4], dtype=torch.bool))
    rest = Rollout(ids[:, 4:], torch.ones_like(ids[:, 4:], dtype=torch.bool), ids.new_zeros(1))
    with lm.running():
        whole = lm.causal_lm(input_ids=ids, use_cache=False).logits[0, 3:-1]
    try:
        apart = head(lm, hidden_states(lm, prompts, rest))
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{lm.config.model}: its architecture has no separable backbone and head ({error}).") from None
    if not torch.allclose(whole.float(), apart.float(), atol=0.05, rtol=0.02):
        raise UserError(
            f"{lm.config.model}: its head does not act on the backbone's last hidden states; not supported."
        )


def compare(
    student: LM,
    teacher: LM,
    hidden: Tensor,
    teacher_hidden: Tensor,
    tokens: Tensor,
    events: EventSpace,
    divergence: Divergence,
) -> PositionStats:
    """(M,) statistics of two models at M positions with (M, D) hidden states and sampled `tokens` (M,).

    Heads and divergence run chunk by chunk; with gradients and more than one chunk, each chunk is computed again in the
    backward pass instead of being kept.
    """
    width = max(1, CHUNK_ELEMENTS // max(student.vocab_size, teacher.vocab_size))

    def chunk(h: Tensor, th: Tensor, tok: Tensor) -> PositionStats:
        with torch.no_grad():
            t = events.log_probs(head(teacher, th))
        s = events.log_probs(head(student, h))
        return _stats(s, t, events.event_of(tok)[:, None], divergence)

    parts = []
    for h, th, tok in zip(hidden.split(width), teacher_hidden.split(width), tokens.split(width), strict=True):
        if hidden.shape[0] > width and torch.is_grad_enabled():
            parts.append(checkpoint(chunk, h, th, tok, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(chunk(h, th, tok))
    return concat_stats(parts)


def _stats(student: Tensor, teacher: Tensor, sampled: Tensor, divergence: Divergence) -> PositionStats:
    """Statistics of (M, V) log-probabilities and (M, 1) sampled events."""
    value = divergence(student, teacher)
    with torch.no_grad():
        s = student.detach()
        return PositionStats(
            divergence=value,
            reverse_kl=value.detach() if divergence is reverse_kl else reverse_kl(s, teacher),
            student_entropy=entropy(s),
            teacher_entropy=entropy(teacher),
            agreement=(s.argmax(-1) == teacher.argmax(-1)).float(),
            student_logp=s.gather(-1, sampled).squeeze(-1),
            teacher_logp=teacher.gather(-1, sampled).squeeze(-1),
        )
