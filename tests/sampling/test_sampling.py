"""The sampler: one stop rule, independence of the batch, and the same tokens as a plain loop without a cache."""

import weakref
from dataclasses import replace

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen3Config

from esr import prompts
from esr.config import ModelConfig
from esr.method.tensors import StopReason
from esr.models.lm import LM
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding, packable, product
from esr.sampling.sampler import Sampler, choose
from tiny import make_lm, make_tokenizer

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
QUESTIONS = ["what is 2+2?", "hi", "a much longer question, with 17 * 3 - 4 in it", "b"]
SAMPLER = Sampler(max_new_tokens=24, terminators=(2,), temperature=0.8, top_p=0.95)


def ids(lm: LM) -> list[list[int]]:
    return [prompts.render(lm.tokenizer, lm.config, q) for q in QUESTIONS]


def roll(lm: LM, rows, sampler=SAMPLER, seed=0, keys=None, samples=1):
    return sample(lm, prompts.pad(rows), sampler, Noise.of(seed, keys or QUESTIONS[: len(rows)], samples))


@torch.no_grad()
def naive(lm: LM, row: list[int], uniform: list[float], sampler: Sampler) -> list[int]:
    """One sequence, no cache, no batch, the definition of nucleus sampling."""
    out: list[int] = []
    for u in uniform[: sampler.max_new_tokens]:
        p = torch.softmax(lm.causal_lm(torch.tensor([row + out])).logits[0, -1].double() / sampler.temperature, -1)
        p, order = p.sort(descending=True)
        keep = int((p.cumsum(0) < sampler.top_p).sum()) + 1
        cumulative = p[:keep].cumsum(0)
        out.append(int(order[int((cumulative <= u * cumulative[-1]).sum().clamp(max=keep - 1))]))
        if out[-1] in sampler.terminators:
            break
    return out


def test_equals_a_naive_loop():
    lm = make_lm(1)
    table = Noise.of(0, QUESTIONS).table(SAMPLER.max_new_tokens).tolist()
    assert roll(lm, ids(lm)).token_lists() == [naive(lm, row, u, SAMPLER) for row, u in zip(ids(lm), table)]


def gemma2():
    """Alternating sliding-window layers, with a window shorter than the sequences; a soft-capped head."""
    return Gemma2Config(**SMALL, head_dim=8, sliding_window=9, final_logit_softcapping=5.0, attn_implementation="eager")


def qwen3():
    return Qwen3Config(**SMALL, head_dim=8)


@pytest.mark.parametrize("architecture", [gemma2, qwen3])
def test_equals_a_naive_loop_on_other_architectures(architecture):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(architecture()).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(4)
    lm = LM(model, make_tokenizer(), ModelConfig(model="x"), (2,))
    table = Noise.of(0, QUESTIONS).table(SAMPLER.max_new_tokens).tolist()
    expected = [naive(lm, row, u, SAMPLER) for row, u in zip(ids(lm), table)]
    with decoding(lm):
        assert roll(lm, ids(lm)).token_lists() == expected


def test_does_not_depend_on_the_batch():
    lm = make_lm(1)
    together = roll(lm, ids(lm)).token_lists()
    for i, row in enumerate(ids(lm)):
        assert roll(lm, [row], keys=[QUESTIONS[i]]).token_lists() == [together[i]]
    backwards = roll(lm, ids(lm)[::-1], keys=QUESTIONS[::-1]).token_lists()
    assert backwards[::-1] == together


def test_amount_of_padding_changes_nothing():
    lm = make_lm(1)
    plain = roll(lm, [ids(lm)[1]], keys=["hi"]).token_lists()
    padded = prompts.pad([ids(lm)[1], ids(lm)[1] * 3])
    assert sample(lm, padded, SAMPLER, Noise.of(0, ["hi", "x"])).token_lists()[:1] == plain


def test_an_early_stop_is_the_head_of_the_same_response():
    lm = make_lm(1)
    full, early = roll(lm, ids(lm), samples=4), roll(lm, ids(lm), replace(SAMPLER, max_new_tokens=7), samples=4)
    cut = full.truncate(7)
    assert torch.equal(cut.response_ids, early.response_ids)
    assert torch.equal(cut.response_mask, early.response_mask)
    assert torch.equal(cut.stop_reason, early.stop_reason)
    assert {StopReason.LENGTH, StopReason.TERMINATOR} == {StopReason(int(r)) for r in full.stop_reason}


def test_the_terminator_is_inside_the_mask_and_nothing_after_it():
    rollout = roll(make_lm(1), ids(make_lm(1)), samples=8)
    for row, finished, length in zip(rollout.token_lists(), rollout.finished.tolist(), rollout.lengths.tolist()):
        assert len(row) == length
        assert 2 not in row[:-1]
        assert (row[-1] == 2) == finished
        assert finished or length == SAMPLER.max_new_tokens


def test_stops_at_any_of_several_terminators():
    rows = roll(make_lm(1), ids(make_lm(1)), replace(SAMPLER, terminators=(2, 9, 30)), samples=8).token_lists()
    assert {2, 9, 30} & {row[-1] for row in rows} != set()
    assert all(not {2, 9, 30} & set(row[:-1]) for row in rows)


def test_samples_share_one_prefill_and_equal_separate_ones():
    lm = make_lm(1)
    shared = roll(lm, ids(lm)[:2], samples=3).token_lists()
    noise = Noise.of(0, QUESTIONS[:2], 3)
    for i in range(6):
        alone = sample(lm, prompts.pad([ids(lm)[i // 3]]), SAMPLER, Noise(noise.rows[i : i + 1])).token_lists()
        assert alone == [shared[i]]


def test_continuation_goes_on_where_the_response_was():
    """Greedy continuation of a prefix is the rest of the greedy response."""
    lm, greedy = make_lm(3), replace(SAMPLER, temperature=0)
    whole = roll(lm, ids(lm), greedy).token_lists()
    rest = sample(
        lm,
        prompts.pad([prompt + head[:2] for prompt, head in zip(ids(lm), whole)]),
        replace(greedy, max_new_tokens=22),
        Noise.of(0, QUESTIONS),
    )
    for row, head in zip(rest.token_lists(), whole):
        if len(head) > 2 and head[1] != 2:
            assert head[:2] + row == head


def test_frequencies_match_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    uniform = torch.arange(0, 1, 1e-4)
    for sampler, expected in [
        (Sampler(1, ()), torch.softmax(logits[0], -1)),
        (Sampler(1, (), temperature=0.5), torch.softmax(logits[0] / 0.5, -1)),
        (Sampler(1, (), top_k=2), torch.softmax(logits[0, :2], -1)),
        (Sampler(1, (), top_p=0.7), torch.softmax(logits[0, :2], -1)),
        (Sampler(1, (), top_p=0.6), torch.tensor([1.0])),
    ]:
        counts = torch.bincount(choose(logits.expand(len(uniform), -1), uniform, sampler), minlength=4) / len(uniform)
        assert torch.allclose(counts[: len(expected)], expected, atol=2e-4)
        assert counts[len(expected) :].sum() == 0


def test_a_nucleus_wider_than_the_candidates_is_found():
    logits = torch.zeros(1, 5000)
    top = choose(logits.expand(3, -1), torch.tensor([0.0, 0.5, 0.9999999]), Sampler(1, (), top_p=0.9))
    assert len(set(top.tolist())) == 3


def test_decoding_weights_give_the_same_tokens_and_leave_no_trace():
    lm = make_lm(1)
    module = peft.get_peft_model(lm.module, peft.LoraConfig(r=4, target_modules="all-linear"))
    for name, p in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(len(name)))
    tuned = LM(module, lm.tokenizer, lm.config, (2,), "default")
    before = {n: p.clone() for n, p in module.named_parameters()}
    plain = roll(tuned, ids(lm))
    with decoding(tuned):
        fast = roll(tuned, ids(lm))
    assert torch.equal(plain.response_ids, fast.response_ids)
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())
    assert not any("forward" in m.__dict__ for m in module.modules())
    bare = LM(module, lm.tokenizer, lm.config, (2,), None)
    with decoding(bare):
        assert roll(bare, ids(lm)).token_lists() != plain.token_lists()


def test_streams_of_noise_differ_and_the_unnamed_one_keeps_its_numbers():
    """The numbers of rollouts and evaluations, so that a seed gives the run that it gave before."""
    table = Noise.of(42, ["0:0:p1"], 2).table(3)
    torch.testing.assert_close(
        table, torch.tensor([[0.7605718, 0.7164549, 0.3420132], [0.2152461, 0.6788507, 0.2478596]]), rtol=0, atol=1e-6
    )
    streams = [Noise.of(42, ["0:0:p1"], stream=stream).table(8) for stream in ("", "selection", "continuation")]
    assert len({tuple(t.flatten().tolist()) for t in streams}) == 3


def test_weights_that_are_packed_are_held_once():
    weight, x = torch.randn(16, 32), torch.randn(2, 32)
    expected, held = x @ weight.T, weakref.ref(weight)
    once = packable(weight)
    times = product(weight, None)
    del weight
    torch.testing.assert_close(times(x), expected)
    assert (held() is None) == once
