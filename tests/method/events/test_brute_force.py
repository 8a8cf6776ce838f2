"""Event classes against distributions over whole texts, every one of which is enumerated.

A *perfect* model knows a distribution over texts and writes each as its own tokenizer does. Whatever the classes claim of
two such models can be counted text by text.
"""

from collections import defaultdict
from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_pairs import CASES, BytePairs, tokenizers
from esr.method.divergence import reverse_kl
from esr.method.events import EventSpace, event_space
from esr.method.events.classes import first_piece

TEXTS = [bytes(letters) for n in range(5) for letters in product(b"ab", repeat=n)]
Row = tuple[int, ...]


def events(student: BytePairs, teacher: BytePairs) -> EventSpace:
    same = [(student.end, teacher.end)]
    return event_space(*first_piece(student.pieces, teacher.pieces, (student.encode, teacher.encode), same))


def written(tokenizer: BytePairs) -> list[Row]:
    """Every text as the tokenizer writes it, with the terminator."""
    return [(*ids, tokenizer.end) for ids in tokenizer.encode(TEXTS)]


def next_token(tokenizer: BytePairs, rows: list[Row], p: torch.Tensor, place: int, texts: list[int]) -> torch.Tensor:
    """Logits of the perfect model after `place` tokens, where only these texts are still possible."""
    mass = torch.zeros(tokenizer.end + 1, dtype=torch.float64)
    for i in texts:
        mass[rows[i][place]] += p[i]
    return (mass / mass.sum()).clamp(min=1e-300).log()


def common_starts(student: BytePairs, teacher: BytePairs, rows: tuple[list[Row], list[Row]]):
    """Places at which both sides start a token after the same bytes and still have the same texts before them.

    Yields how many tokens each side has written, and the texts that are left.
    """
    left: list[dict[Row, set[int]]] = [defaultdict(set), defaultdict(set)]
    for side, found in zip(rows, left):
        for i, row in enumerate(side):
            for k in range(len(row)):
                found[row[:k]].add(i)
    for ours, texts in left[0].items():
        for theirs, others in left[1].items():
            if texts == others and student.spell(ours) == teacher.spell(theirs):
                yield len(ours), len(theirs), sorted(texts)


@settings(max_examples=CASES)
@given(tokenizers(b"ab", 5), tokenizers(b"ab", 5), st.integers(0, 2**31), st.booleans())
def test_class_masses_are_those_of_the_texts_up_to_the_stated_disagreement(student, teacher, seed, equal):
    """Let f(text) be the class of the student's next token. Then the student's masses are P(f = k), exactly; the teacher's
    differ from Q(f = k) by no more than Q(f is not the class of the teacher's own next token), and where that is nothing the
    divergence of the classes is at most that of the texts. So two perfect models of one distribution differ by the
    disagreement and no more."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (torch.rand(len(TEXTS), generator=generator, dtype=torch.float64) ** 3 for _ in range(2))
    q = p if equal else q
    space, rows = events(student, teacher), (written(student), written(teacher))
    starts = list(common_starts(student, teacher, rows))
    assert starts[0][:2] == (0, 0)
    for k, m, texts in starts:
        ours = space.student.log_probs(next_token(student, rows[0], p, k, texts))
        theirs = space.teacher.log_probs(next_token(teacher, rows[1], q, m, texts))
        f = space.student.event_of(torch.tensor([rows[0][i][k] for i in texts]))
        g = space.teacher.event_of(torch.tensor([rows[1][i][m] for i in texts]))
        sides = [x[texts] / x[texts].sum() for x in (p, q)]
        counted = [torch.zeros(space.size, dtype=torch.float64).index_add(0, f, x) for x in sides]
        assert torch.allclose(ours.exp(), counted[0], atol=1e-12)
        disagreement = float(sides[1][f != g].sum())
        assert float((theirs.exp() - counted[1]).abs().sum()) / 2 <= disagreement + 1e-12
        if disagreement == 0:
            of_texts = reverse_kl(*(x.log() for x in sides))
            assert -1e-9 <= float(reverse_kl(ours, theirs)) <= float(of_texts) + 1e-9


def test_the_disagreement_is_look_ahead_and_is_really_there():
    """Both have `a`, `b`, `aa`, `ab`; one writes `aab` as `aa|b`, the other as `a|ab`. No class can mend that."""
    student = BytePairs(b"ab", ((b"a", b"a"), (b"a", b"b")))
    teacher = BytePairs(b"ab", ((b"a", b"b"), (b"a", b"a")))
    space = events(student, teacher)
    f, g = (
        side.event_of(torch.tensor([row[0] for row in written(tokenizer)]))
        for side, tokenizer in ((space.student, student), (space.teacher, teacher))
    )
    differ = [text for text, same in zip(TEXTS, f == g) if not same]
    assert differ == [text for text in TEXTS if text.startswith(b"aab")]
