"""Decoding as on a CUDA device, run here: a fixed cache, weights at fixed addresses, and a host that seldom asks."""

from dataclasses import replace

import peft
import pytest
import torch

from esr import prompts
from esr.models.lm import LM
from esr.sampling import fixed, loop, packed
from esr.sampling.cache import new_cache
from esr.sampling.kept import Kept
from esr.sampling.launches import Launches
from esr.sampling.loop import AHEAD, sample, write
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding
from esr.sampling.sampler import Sampler
from esr.sampling.slots import Slots
from test_sampling import QUESTIONS, SAMPLER, gemma2, ids, naive, qwen3
from tiny import make_lm, make_model, make_tokenizer

CPU = torch.device("cpu")
LONG = Sampler(max_new_tokens=50, terminators=(2,), temperature=0.8, top_p=0.95)


def roll(lm, sampler=SAMPLER, **options):
    return sample(lm, prompts.pad(ids(lm)), sampler, Noise.of(0, QUESTIONS, 3), **options)


@pytest.mark.parametrize(
    "sampler", [LONG, replace(LONG, top_p=1.0), replace(LONG, temperature=0), replace(LONG, top_k=5)]
)
def test_a_fixed_cache_gives_the_same_responses(sampler):
    lm = make_lm(1)
    growing, steady = roll(lm, sampler), roll(lm, sampler, fixed=True)
    assert torch.equal(growing.response_ids, steady.response_ids)
    assert torch.equal(growing.response_mask, steady.response_mask)
    assert torch.equal(growing.stop_reason, steady.stop_reason)


@pytest.mark.parametrize("architecture", [gemma2, qwen3])
def test_a_fixed_cache_equals_a_naive_loop_on_other_architectures(architecture):
    """One of them with a sliding window that is shorter than the sequences."""
    from transformers import AutoModelForCausalLM

    from esr.config import ModelConfig

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(architecture()).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(4)
    lm = LM(model, make_tokenizer(), ModelConfig(model="x"), (2,))
    table = Noise.of(0, QUESTIONS).table(SAMPLER.max_new_tokens).tolist()
    got = sample(lm, prompts.pad(ids(lm)), SAMPLER, Noise.of(0, QUESTIONS), fixed=True)
    assert fixed.fits(lm)
    assert got.token_lists() == [naive(lm, row, u, SAMPLER) for row, u in zip(ids(lm), table)]


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("width", [3, 8])
def test_rows_that_are_filled_again_change_no_response(width, steady):
    """24 responses to 12 prompts of many lengths, in any order, at most `width` at a time."""
    lm = make_lm(1)
    questions = [f"{q} {i}" * (1 + i % 3) for i in range(3) for q in QUESTIONS]
    rows = [prompts.render(lm.tokenizer, lm.config, q) for q in questions]
    noise = Noise.of(0, questions, 2)
    whole = sample(lm, prompts.pad(rows), LONG, noise).token_lists()
    assert len({len(row) for row in whole}) > 5
    got, most = {}, []
    write(lm, rows, LONG, noise, width, lambda r: got.update({r.index: r.ids.tolist()}), most.append, fixed=steady)
    assert [got[i] for i in range(len(noise))] == whole
    assert max(most) <= width


def test_refilled_rows_take_fewer_steps_than_batches():
    lm, steps = make_lm(1), []
    rows, noise = ids(lm) * 6, Noise.of(0, [f"{i}" for i in range(24)])
    write(lm, rows, LONG, noise, 8, lambda r: None, steps.append)
    batches: list[int] = []
    for start in range(0, 24, 8):
        write(
            lm, rows[start : start + 8], LONG, Noise(noise.rows[start : start + 8]), 8, lambda r: None, batches.append
        )
    assert len(steps) < 0.9 * len(batches)


def test_a_nucleus_wider_than_its_candidates_is_found_without_asking(monkeypatch):
    """The tokens of a block whose nucleus was too wide are drawn again."""
    lm = make_lm(1)
    expected = roll(lm, LONG).token_lists()
    monkeypatch.setattr("esr.sampling.sampler.NUCLEUS", 2)
    assert roll(lm, LONG, fixed=True).token_lists() == expected


def test_the_host_waits_at_most_once_in_eight_tokens_and_each_step_launches_the_same(monkeypatch):
    lm, sampler = make_lm(1, terminators=()), replace(LONG, terminators=())
    steps, launch = [], loop.Writing.launch

    def counted(self, slots):
        with Launches(CPU) as launches:
            launch(self, slots)
        steps.append((sum(launches.kernels.values()), sum(launches.waits.values())))

    asked = []
    status = Slots.status
    monkeypatch.setattr(Slots, "status", lambda self: (asked.append(1), status(self))[1])
    monkeypatch.setattr(loop.Writing, "launch", counted)
    roll(lm, sampler, fixed=True)
    assert len(steps) == sampler.max_new_tokens - 1
    assert {waits for _, waits in steps} == {0}
    assert len({kernels for kernels, _ in steps[1:]}) == 1
    assert len(asked) == -(-len(steps) // AHEAD) <= len(steps) / 8


@torch.no_grad()
def test_a_step_needs_no_number_from_the_device():
    """Tensors without numbers: an answer that the host needs is an error, and so is a tensor that is elsewhere."""
    meta, real = torch.device("meta"), make_lm(1)
    with meta:
        lm = LM(make_model(1), real.tokenizer, real.config, (2,))
    growing = new_cache(lm, 64)
    for layer in growing.layers:
        layer.update(torch.zeros(4, 2, 8, 8, device=meta), torch.zeros(4, 2, 8, 8, device=meta))
    slots = Slots(4, 64, LONG, fixed.FixedCache(growing, 4, 64), meta)
    writing = loop.Writing(lm, [[3]], LONG, Noise.of(0, ["a"]), print, print, Kept(), True)
    with Launches(meta) as launches:
        writing.launch(slots)
    assert not +launches.waits and sum(launches.kernels.values()) > 50
    with pytest.raises(NotImplementedError):
        slots.status()


def with_adapter() -> LM:
    lm = make_lm(1)
    module = peft.get_peft_model(lm.module, peft.LoraConfig(r=4, target_modules="all-linear"))
    return LM(module, lm.tokenizer, lm.config, (2,), "default")


def test_merged_weights_and_cache_stay_where_they_are_from_step_to_step(monkeypatch):
    """So that a captured graph reads the new weights; the responses are those of the changed adapter."""
    monkeypatch.setattr(packed, "packable", lambda weight: False)
    lm, kept, places, found = with_adapter(), Kept(), [], []
    for _ in range(3):
        for name, p in lm.module.named_parameters():
            if "lora_B" in name:
                p.data.add_(0.2 * torch.randn(p.shape))
        with decoding(lm, kept):
            found.append(roll(lm, fixed=True, kept=kept).token_lists())
        tensors = [*kept.weights.values(), *kept.slots.whole.values(), *(x.room_k for x in kept.slots.cache.held)]
        places.append([t.data_ptr() for t in tensors])
        assert found[-1] == roll(lm).token_lists()
    assert places[0] == places[1] == places[2]
    assert found[0] != found[1] != found[2]


def test_slots_are_kept_for_a_shorter_horizon_and_made_anew_for_a_longer_one():
    lm, kept = make_lm(1), Kept()
    roll(lm, fixed=True, kept=kept)
    first = kept.slots
    short = replace(SAMPLER, max_new_tokens=7)
    assert roll(lm, short, fixed=True, kept=kept).token_lists() == roll(lm, short).token_lists()
    assert kept.slots is first
    assert roll(lm, replace(SAMPLER, max_new_tokens=90), fixed=True, kept=kept).token_lists() == (
        roll(lm, replace(SAMPLER, max_new_tokens=90)).token_lists()
    )
    assert kept.slots is not first


def test_a_model_that_differs_from_a_fixed_cache_keeps_the_growing_one_and_says_so(monkeypatch, capsys):
    lm = make_lm(5)
    monkeypatch.setattr(fixed.FixedLayer, "get_mask_sizes", lambda self, n: (self.keys.shape[2], 3))
    assert roll(lm, fixed=True).token_lists() == roll(lm).token_lists()
    roll(lm, fixed=True)
    assert capsys.readouterr().err.count("decodes from a growing cache") == 1
