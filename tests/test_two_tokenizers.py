"""One optimiser step between different tokenizers, against a naive reference and under changes that must not matter."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from esr import prompts
from esr.distill import Distiller, gradient
from esr.meters import Phases
from esr.method.events import EventSpace, one_vocabulary
from esr.method.tensors import Rollout, StopReason
from esr.microbatch import Accumulated, Batch
from esr.models import dropout
from esr.models.lm import LM
from esr.models.spelling import read_spelling
from esr.pair import Pair
from esr.pair.crossing import Crossing
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from test_distill import CPU, QUESTIONS, config
from tiny import LETTERS, make_model, make_tokenizer

OURS = make_tokenizer(letters=[*LETTERS, "ab", "abc", "12", " =", "zz", "q."])
THEIRS = make_tokenizer(eos="<|endoftext|>", letters=[*reversed(LETTERS), "bc", "123", "a=", "zzz"])
ENDS = (2,), (1, 2)


@cache
def crossing(ours=OURS, theirs=THEIRS, ends=ENDS) -> Crossing:
    sides = [read_spelling(t, len(t), e, "test") for t, e in zip((ours, theirs), ends)]
    return Crossing(sides[0], sides[1], ends)


def lm(seed: int, tokenizer, ends: tuple[int, ...]) -> LM:
    return LM(make_model(seed, vocab=len(tokenizer)), tokenizer, config().student, ends)


def distiller(
    student: LM | None = None, teacher: LM | None = None, events: EventSpace | None = None, **loss
) -> Distiller:
    student, teacher = student or lm(1, OURS, ENDS[0]), teacher or lm(2, THEIRS, ENDS[1])
    student.module.requires_grad_(True)
    cfg = config(loss=loss)
    pair = Pair(OURS, THEIRS, *ENDS, crossing())
    return Distiller(
        cfg, student, teacher, events or pair.events(cfg.loss.merge_terminators), Sampler(24, student.terminators, 1.0, 1.0),
        torch.optim.AdamW(student.module.parameters()), 10**6, lambda text: None, None if events else pair.baseline(cfg.loss, CPU),
    )  # fmt: skip


def written(seed: int = 0, ended: bool | None = None) -> Rollout:
    """Responses of random tokens, so that few are what the student's tokenizer would write; every other one ended."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(6, len(OURS), (3 + 2 * i,), generator=generator).tolist() for i in range(len(QUESTIONS))]
    return responses(rows, [i % 2 == 0 if ended is None else ended for i in range(len(rows))])


def responses(rows: list[list[int]], ended: list[bool]) -> Rollout:
    rows = [[*row, *ENDS[0] * end] for row, end in zip(rows, ended)]
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
    return Rollout(ids, mask, torch.tensor([StopReason.TERMINATOR if end else StopReason.LENGTH for end in ended]))


def batch(run: Distiller, rollout: Rollout, before: tuple[int, ...] = ()) -> Batch:
    """The responses after both sides' prompts; `before` stands before the teacher's."""
    ours, theirs = ([prompts.render(m.tokenizer, m.config, q) for q in QUESTIONS] for m in (run.student, run.teacher))
    sides = prompts.pad(ours), prompts.pad([[*before, *ids] for ids in theirs])
    noise = Noise.of(1, QUESTIONS).table(rollout.response_ids.shape[1])
    return Batch(run.events.read(rollout), *sides, noise, dropout.seeds(0, QUESTIONS), QUESTIONS)


def scored(run: Distiller, data: Batch, budget: int = 10**6) -> tuple[Accumulated, torch.Tensor]:
    """What a step accumulates, and its gradient."""
    found = gradient(run, data, 0, Phases(CPU), budget)
    return found, torch.cat([p.grad.flatten() for p in run.student.module.parameters()])


# The naive reference -------------------------------------------------------------------------------------------------


def naive_loss(run: Distiller, data: Batch, cross: str = "classes") -> torch.Tensor:
    """The loss in float64, response by response, from the definitions."""
    means = []
    for row, ids in enumerate(data.rollout.token_lists()):
        ended = ids[-1] in ENDS[0]
        theirs = crossing().teacher.encode([spell(0, ids)])[0] + [ENDS[1][0]] * ended
        logp = [naive_log_probs(run, data, row, side, tokens) for side, tokens in enumerate((ids, theirs))]
        losses = [naive_unit(logp, (ids, theirs), unit, cross) for unit in naive_units((ids, theirs), ended)]
        means.append(torch.stack(losses).mean())
    return torch.stack(means).mean()


def spell(side: int, ids: list[int]) -> bytes:
    return b"".join((crossing().student, crossing().teacher)[side].pieces[i] or b"" for i in ids)


def naive_log_probs(run: Distiller, data: Batch, row: int, side: int, tokens: list[int]) -> torch.Tensor:
    model = (run.student.module, run.teacher.module)[side].double()
    prompt = (data.student_prompts, data.teacher_prompts)[side].select(torch.tensor([row])).ids[0].tolist()
    return model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 :].log_softmax(-1)


def naive_units(tokens: tuple[list[int], list[int]], ended: bool) -> list[tuple[int, int, int, int]]:
    """First tokens and the tokens after the last of the chunks: where both sides have written equally many bytes."""
    places = [range(len(ids) + (not ended)) for ids in tokens]
    common = [(i, j) for i in places[0] for j in places[1] if spell(0, tokens[0][:i]) == spell(1, tokens[1][:j])]
    common += [(len(tokens[0]), len(tokens[1]))] * ended
    units = [(*start, *end) for start, end in pairwise(common)]
    i, j, i_end, j_end = units[-1]
    return units[:-1] if not ended and max(i_end - i, j_end - j) > 1 else units


def naive_unit(logp: list[torch.Tensor], tokens, unit: tuple[int, int, int, int], cross: str) -> torch.Tensor:
    """Divergence of the first events of a chunk, and half the squared log-ratio of the rest."""
    labels = crossing().labels(merge=True, cross="classes" if cross == "uld" else cross)
    rest_labels = crossing().labels(merge=True)
    starts, ends = unit[:2], unit[2:]
    at = [side[place] for side, place in zip(logp, starts)]
    if cross == "uld":
        ranked = [sorted(x.exp().tolist(), reverse=True) + [0.0] * 99 for x in at]
        value = torch.tensor(sum(abs(a - b) for a, b in zip(*ranked)))
    else:
        p, q = (naive_masses(x, of) for x, of in zip(at, labels))
        value = sum(p[k] * (p[k].log() - q[k].log()) for k in p)
    if max(end - start for start, end in zip(starts, ends)) > 1:
        rest = []
        for side in (0, 1):
            ids, of = tokens[side], rest_labels[side]
            whole = sum(logp[side][t][ids[t]] - kept(logp[side][t], of) for t in range(starts[side], ends[side]))
            rest.append(whole - naive_masses(at[side], of)[of[ids[starts[side]]]].log())
        value = value + 0.5 * (rest[0] - rest[1]) ** 2
    return value


def kept(logp: torch.Tensor, labels) -> torch.Tensor:
    """What the columns that are compared sum to, in logs."""
    return logp[torch.from_numpy(labels) >= 0].logsumexp(-1)


def naive_masses(logp: torch.Tensor, labels) -> dict[int, torch.Tensor]:
    p = (logp - kept(logp, labels)).exp()
    return {k: sum(p[i] for i, label in enumerate(labels) if label == k) for k in {*labels.tolist()} - {-1}}


@pytest.mark.parametrize("before", [(), (5, 7, 8, 9)])
def test_loss_and_gradient_equal_a_naive_float64_reference(before):
    run = distiller()
    data = batch(run, written(), before)
    found, ours = scored(run, data)
    run.student.module.double().zero_grad()
    loss = naive_loss(run, data)
    loss.backward()
    theirs = torch.cat([p.grad.flatten() for p in run.student.module.parameters()])
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(ours.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("cross", ["shared_plus_rest", "uld"])
def test_the_baselines_equal_naive_references(cross):
    run = distiller(cross=cross)
    data = batch(run, written())
    found, _ = scored(run, data)
    with torch.no_grad():
        assert found.loss == pytest.approx(naive_loss(run, data, cross).item(), rel=1e-5)


# What must not matter ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "token_sum"])
@pytest.mark.parametrize("selection", ["all", "first", "top_kl"])
def test_micro_batches_and_padding_change_nothing(aggregation, selection):
    loss = {"aggregation": aggregation, "selection": {"by": selection, "k": 4}}
    (whole, a), (parts, b) = ((run := distiller(**loss)) and scored(run, batch(run, written()), n) for n in (10**6, 1))
    assert (whole.micro_batches, parts.micro_batches) == (1, len(QUESTIONS))
    assert whole.loss == pytest.approx(parts.loss, rel=1e-5)
    assert torch.equal(whole.weights, parts.weights)
    assert torch.allclose(a, b, atol=1e-6 * float(a.abs().max()))


def test_a_longer_template_on_one_side_changes_nothing():
    """The teacher's predictions depend on the last token alone, so that what stands far before it cannot matter."""
    runs = [distiller(teacher=forgetful(lm(2, THEIRS, ENDS[1]))) for _ in range(2)]
    (short, a), (long, b) = (scored(run, batch(run, written(), more)) for run, more in zip(runs, [(), (9, 8, 7, 11)]))
    assert short.loss == pytest.approx(long.loss, rel=1e-6)
    assert torch.allclose(short.stats.reverse_kl, long.stats.reverse_kl, atol=1e-5)
    assert torch.allclose(a, b, atol=1e-6 * float(a.abs().max()))


def forgetful(model: LM) -> LM:
    for layer in model.module.model.layers:
        layer.self_attn.o_proj.weight.zero_()
    return model


def test_one_tokenizer_on_both_sides_is_the_plain_loss_bit_for_bit():
    """Position 0, terminators and cuts included."""
    cross = Crossing(*(read_spelling(OURS, len(OURS), (2,), side) for side in ("student", "teacher")), ((2,), (2,)))
    rows = [
        OURS(text, add_special_tokens=False)["input_ids"]
        for text in ("abc=12", "a", " = zzz", "q.q", "x", "12", "ab", "c")
    ]
    rollout = responses(rows, [i % 2 == 0 for i in range(len(rows))])
    found = []
    for events in (one_vocabulary(len(OURS), (2,)), cross.events(merge=True)):
        run = distiller(teacher=lm(2, OURS, (2,)), events=events)
        found.append(scored(run, batch(run, rollout)))
    (plain, a), (general, b) = found
    assert plain.loss == general.loss and torch.equal(a, b)
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(plain.stats.tensors(), general.stats.tensors()))
    same = distiller(teacher=lm(1, OURS, (2,)), events=cross.events(merge=True))
    assert scored(same, batch(same, rollout))[0].loss == 0


def test_a_cut_and_an_ended_response_differ_in_the_last_unit_only():
    """The terminator; and the chunk before it, where the cut left open whether it had ended."""
    run, more = distiller(), set()
    for seed in range(4):
        cut, ended = (scored(run, batch(run, written(seed, end)))[0] for end in (False, True))
        there, width = cut.weights > 0, cut.weights.shape[1]
        assert (ended.weights[:, :width] >= cut.weights).all()
        assert torch.allclose(cut.stats.divergence[there], ended.stats.divergence[:, :width][there], atol=1e-4)
        more |= {*((ended.weights > 0).sum(1) - there.sum(1)).tolist()}
    assert more == {1, 2}


def test_the_gradient_is_that_of_central_differences():
    student, teacher = lm(1, OURS, ENDS[0]), lm(2, THEIRS, ENDS[1])
    student.module.double(), teacher.module.double()
    run = distiller(student, teacher)
    data = batch(run, written())
    _, slope = scored(run, data)
    weights = list(student.module.parameters())
    start, way = parameters_to_vector(weights).detach(), torch.randn(len(slope), dtype=torch.float64)
    ends = []
    for step in (1e-4, -1e-4):  # norms and rotations are computed in float32
        vector_to_parameters(start + step * way, weights)
        ends.append(scored(run, data)[0].loss)
    assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(float(slope.double() @ way), rel=2e-3)
