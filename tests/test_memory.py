"""Out of memory: every kind of it is noticed, and work done in halves gives the same."""

import pytest
import torch

from esr import scoring
from esr.analysis import responses
from esr.errors import UserError
from esr.memory import in_halves, out_of_memory, release
from esr.method.divergence import reverse_kl
from esr.method.events import one_vocabulary
from esr.prompts import pad
from esr.sampling import loop
from esr.sampling.forward import forward
from esr.sampling.kept import Kept
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from test_scoring import LENGTHS, rows
from tiny import make_lm


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, ...)."),
        RuntimeError("CUDA error: out of memory. CUDA kernel errors might be asynchronously reported"),
    ],
    ids=lambda error: (str(error) or "MemoryError")[:24],
)
def test_every_kind_of_it_is_noticed(error):
    assert out_of_memory(error)


def test_other_errors_are_not_taken_for_it():
    assert not any(
        map(out_of_memory, [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory."), OSError("x")])
    )


QUESTIONS = ["what is 2+2?", "hi", "a much longer question, with 17 * 3 - 4 in it", "b"]
SAMPLER = Sampler(max_new_tokens=24, terminators=(2,), temperature=0.8, top_p=0.95)


def limited(real, limit: int):
    """`real`, out of memory for more than `limit` rows."""

    def tight(lm, prompts, *rest):
        if len(prompts) > limit or (len(rest) > 1 and isinstance(rest[1], Noise) and len(rest[1]) > limit):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(lm, prompts, *rest)

    return tight


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_sampling_out_of_memory_goes_on_with_fewer_rows_and_gives_the_same(limit, fixed, monkeypatch):
    """More rows than `limit` run out of memory in the middle of their responses."""
    lm, noise = make_lm(1), Noise.of(0, QUESTIONS, 3)
    prompts = pad([lm.tokenizer(q)["input_ids"] for q in QUESTIONS])
    expected = loop.sample(lm, prompts, SAMPLER, noise)

    def tight(lm, ids, mask, cache, positions=None):
        if positions is not None and len(ids) > limit and mask.sum(1).max() > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(lm, ids, mask, cache, positions)

    monkeypatch.setattr(loop, "forward", tight)
    got = loop.sample(lm, prompts, SAMPLER, noise, fixed=fixed)
    assert torch.equal(got.response_ids, expected.response_ids)
    assert torch.equal(got.response_mask, expected.response_mask)
    assert torch.equal(got.stop_reason, expected.stop_reason)


@torch.no_grad()
def test_scoring_in_halves_gives_the_same_hidden_states(monkeypatch):
    lm = make_lm(1)
    expected = scoring.hidden_states(lm, *rows(LENGTHS))
    monkeypatch.setattr(scoring, "_hidden_states", limited(scoring._hidden_states, 1))
    assert torch.allclose(scoring.hidden_states(lm, *rows(LENGTHS)), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sort", ["statistics", "overlap"])
def test_comparing_in_halves_gives_the_same(sort, monkeypatch):
    """As in analyses and on tasks without references, whose heads are the largest tensors there."""
    lm, other = make_lm(1), make_lm(2)
    ours, theirs = (scoring.hidden_states(one, *rows(LENGTHS)) for one in (lm, other))
    events, tokens = one_vocabulary(lm.vocab_size), torch.arange(len(ours)) % 7

    def found() -> torch.Tensor:
        if sort == "overlap":
            return responses.top_k_overlap(lm, other, ours, theirs, events)
        return scoring.compare(lm, other, ours, theirs, tokens, events, reverse_kl).divergence

    expected = found()

    def tight(one, hidden):
        if len(hidden) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return head(one, hidden)

    head = scoring.head
    monkeypatch.setattr(scoring, "head", tight)
    monkeypatch.setattr(responses, "head", tight)
    assert torch.allclose(found(), expected, atol=1e-6)


def test_a_single_response_that_does_not_fit_is_the_users_to_mend(monkeypatch):
    def none(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loop, "forward", none)
    with pytest.raises(UserError, match="while sampling, with a single response"):
        loop.sample(make_lm(1), pad([[3, 4]]), SAMPLER, Noise.of(0, ["a"]))


def test_what_is_kept_to_save_time_is_given_up():
    kept = Kept(weights={torch.nn.Linear(1, 1): torch.zeros(1)})
    release()
    assert not kept.weights


def test_a_single_row_that_does_not_fit_is_the_users_to_mend():
    def work(part):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError, match="while sampling, with a single response"):
        in_halves(work, torch.arange(4), "sampling")


def test_a_failed_backward_pass_holds_nothing_after_release():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            raise torch.OutOfMemoryError("out of memory.")

    freed = []

    class Held(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.held = Token()
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Token:
        def __del__(self):
            freed.append(1)

    def attempt():
        x = torch.ones(3, requires_grad=True)
        (Held.apply(x) + Fails.apply(x) + Held.apply(x)).sum().backward()

    with pytest.raises(torch.OutOfMemoryError):
        attempt()
    release()
    assert len(freed) == 2
