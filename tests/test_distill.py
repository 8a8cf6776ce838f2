"""One optimiser step: equivalences that must hold whatever the batch, the micro-batch or the cut."""

from dataclasses import replace
from functools import partial

import peft
import pytest
import torch

from esr import distill, prompts
from esr.config.configfile import validate
from esr.distill import Distiller, PromptPair, gradient, step
from esr.errors import RunStopped, UserError
from esr.meters import Phases
from esr.method.events import one_vocabulary
from esr.method.events.positions import same
from esr.microbatch import Batch
from esr.models import dropout
from esr.models.lm import LM
from esr.records.problem import Problem
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from tiny import make_lm

CPU = torch.device("cpu")
QUESTIONS = ["what is 2+2?", "hi", "a longer question: 17 * 3 - 4", "b", "c c", "ddd", "e", "f + g"]


def config(**changes):
    tree = {"student": {"model": "a", "train": "full"}, "teacher": {"model": "b"}, "data": {"source": "x.jsonl"}}
    tree |= {"rollout": {"prompts_per_step": 8, "max_new_tokens": 20}, "optim": {"lr": 1e-2}, **changes}
    return validate(tree, "test")


def distiller(budget: int = 10**6, n: int = 20, **changes) -> Distiller:
    student, teacher = make_lm(1), make_lm(2)
    student.module.requires_grad_(True)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-2)
    cfg = config(**changes)
    return Distiller(
        cfg, student, teacher, one_vocabulary(64), Sampler(n, (2,), 0.8, 0.95), optimizer, budget, lambda text: None
    )


def pairs(run: Distiller) -> list[PromptPair]:
    lm = run.student
    rows = [prompts.render(lm.tokenizer, lm.config, q) for q in QUESTIONS]
    return [PromptPair(Problem(id=q, question=q), row, row) for q, row in zip(QUESTIONS, rows)]


def batch(run: Distiller, n: int | None = None) -> Batch:
    sampler = run.sampler if n is None else replace(run.sampler, max_new_tokens=n)
    rows = prompts.pad([p.student_ids for p in pairs(run)])
    rollout = sample(run.student, rows, sampler, Noise.of(0, QUESTIONS))
    noise = Noise.of(1, QUESTIONS).table(rollout.response_ids.shape[1])
    return Batch(same(rollout), rows, rows, noise, dropout.seeds(0, QUESTIONS), QUESTIONS)


def grads(run: Distiller) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in run.student.module.parameters()])


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "token_sum"])
@pytest.mark.parametrize("by", ["all", "first", "random", "top_kl"])
def test_eight_micro_batches_of_one_equal_one_of_eight(aggregation, by):
    loss = {"aggregation": aggregation, "selection": {"by": by, "k": 5}}
    runs = [distiller(budget, loss=loss) for budget in (10**6, 1)]
    scored = [gradient(run, batch(run), 0, Phases(CPU), run.micro_batch_tokens) for run in runs]
    assert [s.micro_batches for s in scored] == [1, 8]
    assert scored[0].loss == pytest.approx(scored[1].loss, rel=1e-5)
    assert torch.equal(scored[0].weights, scored[1].weights)
    assert torch.allclose(grads(runs[0]), grads(runs[1]), atol=1e-6)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "token_sum"])
def test_early_stop_equals_first_n_weights_on_the_full_rollout(aggregation):
    """ESR's learning effect is a first-N selection; only its cost differs."""
    full = distiller(loss={"aggregation": aggregation, "selection": {"by": "first", "k": 6}})
    early = distiller(n=6, loss={"aggregation": aggregation})
    a, b = (
        gradient(full, batch(full), 0, Phases(CPU), full.micro_batch_tokens),
        gradient(early, batch(early), 0, Phases(CPU), early.micro_batch_tokens),
    )
    assert a.stats.reverse_kl.shape[1] > 6 == b.stats.reverse_kl.shape[1]
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert torch.allclose(grads(full), grads(early), atol=1e-6)


def test_loss_and_gradient_equal_a_naive_float64_reference():
    run = distiller()
    data = batch(run)
    scored = gradient(run, data, 0, Phases(CPU), run.micro_batch_tokens)
    ours = grads(run)

    run.student.module.double().zero_grad()
    teacher = run.teacher.module.double()
    losses = []
    for i, response in enumerate(data.rollout.token_lists()):
        text = torch.tensor([pairs(run)[i].student_ids + response])
        s, t = (m(text).logits[0, -len(response) - 1 : -1].log_softmax(-1) for m in (run.student.module, teacher))
        losses.append((s.exp() * (s - t.detach())).sum(-1).mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    assert scored.loss == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(ours.double(), grads(run), atol=1e-5)


def test_identical_models_give_zero_loss_and_gradient():
    run = distiller()
    run.teacher = make_lm(1)
    scored = gradient(run, batch(run), 0, Phases(CPU), run.micro_batch_tokens)
    assert abs(scored.loss) < 1e-6
    assert grads(run).abs().max() < 1e-6


def test_a_step_moves_the_student_and_never_the_teacher():
    run = distiller()
    student, teacher = ({n: p.clone() for n, p in lm.module.named_parameters()} for lm in (run.student, run.teacher))
    report = step(run, pairs(run), 0, 1e-2)
    assert all(torch.equal(p, teacher[n]) and p.grad is None for n, p in run.teacher.module.named_parameters())
    assert any(not torch.equal(p, student[n]) for n, p in run.student.module.named_parameters())
    assert report.metrics["tokens/trained"] == report.metrics["tokens/generated"]
    assert report.metrics["optim/lr"] == 1e-2


def test_steps_lower_the_divergence():
    run = distiller()
    losses = [step(run, pairs(run), i, 1e-2).metrics["loss"] for i in range(8)]
    assert losses[-1] < 0.7 * losses[0]


def test_student_and_teacher_may_have_different_prompts():
    """Each side scores the response after its own prompt."""
    run = distiller()
    data = batch(run)
    other = prompts.pad([[5, *p.student_ids, 7, 8, 9] for p in pairs(run)])
    mixed = replace(data, teacher_prompts=other)
    run.teacher = make_lm(1)
    assert gradient(run, mixed, 0, Phases(CPU), run.micro_batch_tokens).loss > 1e-3


def test_out_of_memory_repeats_the_whole_step_with_the_same_gradient(monkeypatch):
    calm, tight = distiller(), distiller()
    notes: list[str] = []
    tight.notify = notes.append
    expected = gradient(calm, batch(calm), 0, Phases(CPU), calm.micro_batch_tokens)
    seen: list[int] = []
    real = distill.hidden_states

    def failing(lm, part, rollout, *seeds):
        if lm is tight.student:
            seen.append(len(rollout))
            if len(seen) in (1, 3):  # the first try, then the second micro-batch of the second try
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(lm, part, rollout, *seeds)

    monkeypatch.setattr(distill, "hidden_states", failing)
    data = batch(tight)
    attempt = partial(gradient, tight, data, 0, Phases(CPU))
    scored, _ = distill.with_less_memory(attempt, tight.micro_batch_tokens, data, tight.notify)
    assert scored.micro_batches > 2
    assert len(notes) == 2
    assert scored.loss == pytest.approx(expected.loss, rel=1e-5)
    assert torch.allclose(grads(calm), grads(tight), atol=1e-6)


def test_out_of_memory_with_one_response_is_the_users_to_mend(monkeypatch):
    run = distiller(1)
    data = batch(run)
    monkeypatch.setattr(
        distill, "hidden_states", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory."))
    )
    with pytest.raises(UserError, match=r"lower rollout\.max_new_tokens"):
        distill.with_less_memory(partial(gradient, run, data, 0, Phases(CPU)), run.micro_batch_tokens, data, run.notify)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    run = distiller()
    with torch.no_grad():
        run.teacher.causal_lm.model.embed_tokens.weight[:] = float("nan")
    before = {n: p.clone() for n, p in run.student.module.named_parameters()}
    with pytest.raises(RunStopped, match="step 4 is not finite: response to problem .*, position"):
        step(run, pairs(run), 3, 1e-2)
    assert all(torch.equal(p, before[n]) for n, p in run.student.module.named_parameters())


def test_gradient_checkpointing_changes_no_gradient():
    plain, saved = distiller(), distiller()
    saved.student.causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    losses = [gradient(run, batch(run), 0, Phases(CPU), run.micro_batch_tokens).loss for run in (plain, saved)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert torch.allclose(grads(plain), grads(saved), atol=1e-7)


def with_adapter(budget: int, p: float = 0.3) -> Distiller:
    """A student that trains a LoRA adapter, B not zero, with dropout."""
    run = distiller(budget)
    torch.manual_seed(3)
    lora = peft.LoraConfig(r=4, lora_dropout=p, target_modules="all-linear")
    module = peft.get_peft_model(run.student.module, lora)
    for name, weight in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    student = run.student
    run.student = LM(module, student.tokenizer, student.config, (2,), "default", dropout=dropout.install(module))
    return run


def adapter_grads(run: Distiller) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in run.student.module.parameters() if p.requires_grad])


def test_dropout_depends_on_the_row_and_not_on_the_micro_batch():
    whole, split, saved, other, off = (with_adapter(b) for b in (10**6, 60, 60, 10**6, 10**6))
    saved.student.causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    data = batch(whole)
    data = replace(data, student_prompts=replace(data.student_prompts), keys=QUESTIONS)
    elsewhere = replace(data, dropout=dropout.seeds(1, QUESTIONS))
    off.student = replace(off.student, dropout=None)
    found = [
        (gradient(run, rows, 0, Phases(CPU), run.micro_batch_tokens), adapter_grads(run))
        for run, rows in ((whole, data), (split, data), (saved, data), (other, elsewhere), (off, data))
    ]
    (a, expected), (b, got), (_, checkpointed), (_, differing), (_, plain) = found
    assert a.micro_batches == 1 < b.micro_batches
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert torch.allclose(expected, got, atol=1e-6)
    assert torch.allclose(expected, checkpointed, atol=1e-6)
    assert not torch.allclose(expected, differing, atol=1e-3)
    assert not torch.allclose(expected, plain, atol=1e-3)


def test_merging_terminators_of_one_changes_nothing():
    plain, merged = distiller(), distiller()
    merged.events = one_vocabulary(64, (2,))
    assert (
        gradient(plain, batch(plain), 0, Phases(CPU), plain.micro_batch_tokens).loss
        == gradient(merged, batch(merged), 0, Phases(CPU), merged.micro_batch_tokens).loss
    )


def test_several_samples_of_a_prompt_are_rows_of_their_own():
    run = distiller(rollout={"prompts_per_step": 2, "samples_per_prompt": 3, "max_new_tokens": 20})
    report = step(run, pairs(run)[:2], 0, 1e-2)
    assert report.keys == [QUESTIONS[0]] * 3 + [QUESTIONS[1]] * 3
    assert len({tuple(row) for row in report.rollout.token_lists()}) > 2
