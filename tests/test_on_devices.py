"""What must hold on every device and in every type: run here on the CPU, and with `pytest -m gpu` on a CUDA device."""

from dataclasses import replace

import peft
import pytest
import torch

from architectures import lm_of, tiny_model
from esr import probe, prompts
from esr.distill import Distiller, gradient, step
from esr.meters import Phases
from esr.method import divergence
from esr.method.events import one_vocabulary
from esr.models.lm import LM
from esr.sampling import fixed
from esr.sampling.kept import Kept
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding
from test_distill import QUESTIONS, batch, distiller, grads, pairs
from tiny import make_lm

TYPES = [torch.float32, torch.bfloat16]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
on_devices = pytest.mark.parametrize("device", DEVICES)
in_types = pytest.mark.parametrize("dtype", TYPES, ids=str)


def moved(lm: LM, device: str, dtype: torch.dtype = torch.float32) -> LM:
    return replace(lm, module=lm.module.to(device, dtype))


def distilling(device: str, dtype: torch.dtype) -> Distiller:
    """The tests' step, its models moved; new tensors of an optimiser follow its parameters."""
    run = distiller()
    student, teacher = moved(run.student, device, dtype), moved(run.teacher, device, dtype)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-2)
    return replace(
        run, student=student, teacher=teacher, events=run.events.to(torch.device(device)), optimizer=optimizer
    )


@on_devices
@in_types
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt_oss", "mixtral"])
def test_scoring_and_decoding_are_the_models_own_forward(name, dtype, device):
    probe.check(moved(lm_of(tiny_model(name)), device, dtype))


@on_devices
@in_types
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text"])
def test_a_fixed_cache_gives_the_same_logits(name, dtype, device):
    assert fixed.fits(moved(lm_of(tiny_model(name)), device, dtype))


@on_devices
@in_types
def test_the_gradient_is_that_of_float64(dtype, device):
    reference = distilling("cpu", torch.float64)
    data = batch(distiller())
    gradient(reference, data, 0, Phases(torch.device("cpu")), 10**6)
    run = distilling(device, dtype)
    there = replace(
        data, student_prompts=data.student_prompts.to(run.student.device), teacher_prompts=data.teacher_prompts.to(run.student.device),
        positions=one_vocabulary(64).to(run.student.device).read(data.rollout.to(run.student.device)),
        noise=data.noise.to(device), dropout=data.dropout.to(device),
    )  # fmt: skip
    gradient(run, there, 0, Phases(run.student.device), 300)
    ours = grads(run).double().cpu()
    assert torch.cosine_similarity(ours, grads(reference), 0) > (0.99999 if dtype == torch.float32 else 0.99)


@on_devices
def test_divergences_are_those_of_float64(device):
    torch.manual_seed(0)
    s, t = (20 * torch.randn(64, 5000)).log_softmax(-1), (20 * torch.randn(64, 5000)).log_softmax(-1)
    for name in ("reverse_kl", "forward_kl", "jsd"):
        found = divergence.by_name(name, 0.5)(s.to(device), t.to(device)).cpu().double()
        wanted = divergence.by_name(name, 0.5)(s.double(), t.double())
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


@on_devices
@in_types
def test_a_step_learns(dtype, device):
    run = distilling(device, dtype)
    losses = [step(run, pairs(run), 0, 1e-2).metrics["loss"] for _ in range(6)]
    assert losses[-1] < 0.9 * losses[0]


@on_devices
def test_rollouts_follow_the_adapter_from_step_to_step(device):
    """With what is kept between steps: on a CUDA device captured graphs, which must read the new weights."""
    lm, kept = make_lm(1), Kept()
    module = peft.get_peft_model(lm.module.to(device), peft.LoraConfig(r=4, target_modules="all-linear"))
    tuned = LM(module, lm.tokenizer, lm.config, (2,), "default")
    rows = prompts.pad([prompts.render(lm.tokenizer, lm.config, q) for q in QUESTIONS])
    sampler, found = replace(distiller().sampler, max_new_tokens=40, terminators=()), []
    for _ in range(3):
        for name, p in module.named_parameters():
            if "lora_B" in name:
                p.data.add_(0.2 * torch.randn(p.shape).to(device))
        with decoding(tuned, kept):
            found.append(sample(tuned, rows, sampler, Noise.of(0, QUESTIONS), kept=kept, fixed=True).token_lists())
        assert found[-1] == sample(tuned, rows, sampler, Noise.of(0, QUESTIONS), fixed=False).token_lists()
    assert found[0] != found[1] != found[2]
    assert bool(kept.slots.graphs.graphs) == (device == "cuda")
