"""Chunks of two tokenisations: where both sides start a token, whatever the bytes, the merges and the cut."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_pairs import CASES, BytePairs, reader, tokenizers
from esr.method.events.positions import chunks, same
from esr.method.tensors import Rollout

ALPHABET = b"ab \xc3\xa9"


@st.composite
def responses(draw, tokenizer: BytePairs) -> list[int]:
    """Sampled ids: canonical or not, cut anywhere (inside a character too), or ended with the terminator."""
    if draw(st.booleans()):
        text = bytes(draw(st.lists(st.sampled_from(ALPHABET), max_size=24)))
        ids = tokenizer.encode([text])[0]
        ids = ids[: draw(st.integers(0, len(ids)))]
    else:
        ids = draw(st.lists(st.integers(0, tokenizer.end - 1), max_size=16))
    return [*ids, tokenizer.end] if draw(st.booleans()) else ids


@settings(max_examples=CASES, deadline=None)
@given(st.data())
def test_chunks_spell_the_response_on_both_sides(data):
    student, teacher = data.draw(tokenizers(ALPHABET)), data.draw(tokenizers(ALPHABET))
    ids = data.draw(responses(student))
    reading = reader(student, teacher).read([ids])[0]
    ended = bool(ids) and ids[-1] == student.end
    text = [student.pieces[i] for i in ids if i != student.end]
    theirs = [teacher.pieces[i] for i in reading.teacher if i != teacher.end]
    spans = list(zip(*reading.starts, *reading.ends))
    spelled = []
    for s, t, s_end, t_end in spans:
        ours, others = b"".join(text[s:s_end]), b"".join(theirs[t:t_end])
        assert ours == others
        spelled.append(ours)
        inner = [
            {len(b"".join(side[a:k])) for k in range(a + 1, b)} for side, a, b in ((text, s, s_end), (theirs, t, t_end))
        ]
        assert not inner[0] & inner[1], "a chunk is a shortest one"
    assert all(a[2:] == b[:2] for a, b in pairwise(spans)), "chunks follow one another"
    whole = b"".join(text)
    if ended:
        assert b"".join(spelled) == whole
        assert spelled[-1] == b"" and reading.teacher[-1] == teacher.end
    else:
        left = whole.removeprefix(b"".join(spelled))
        assert len(theirs) == (reading.ends[1] or [0])[-1], "the teacher reads no more than is compared"
        assert left == b"" or len(student.encode([left])[0]) + len(teacher.encode([left])[0]) > 1


@settings(max_examples=CASES, deadline=None)
@given(st.data())
def test_a_cut_and_an_ended_response_differ_in_the_last_unit_only(data):
    student, teacher = data.draw(tokenizers(ALPHABET)), data.draw(tokenizers(ALPHABET))
    ids = [i for i in data.draw(responses(student)) if i != student.end]
    cut, ended = reader(student, teacher).read([ids, [*ids, student.end]])
    units = [list(zip(*r.starts, *r.ends)) for r in (cut, ended)]
    assert units[0] == units[1][: len(units[0])]
    assert len(units[1]) - len(units[0]) in (1, 2)
    finished = len(units[1]) < 2 or max(units[1][-2][2] - units[1][-2][0], units[1][-2][3] - units[1][-2][1]) == 1
    assert (len(units[1]) - len(units[0]) == 1) is finished


@settings(max_examples=CASES, deadline=None)
@given(st.data())
def test_one_tokenizer_on_both_sides_gives_every_token_its_own_chunk(data):
    tokenizer = data.draw(tokenizers(ALPHABET))
    text = bytes(data.draw(st.lists(st.sampled_from(ALPHABET), max_size=24)))
    ids = tokenizer.encode([text])[0] + [tokenizer.end] * data.draw(st.integers(0, 1))
    rollout = Rollout(torch.tensor([ids], dtype=torch.long), torch.ones(1, len(ids), dtype=torch.bool), torch.zeros(1))
    read, plain = reader(tokenizer, tokenizer)(rollout), same(rollout)
    assert torch.equal(read.teacher.response_ids, rollout.response_ids)
    for field in ("student_starts", "teacher_starts", "student_long", "teacher_long"):
        assert torch.equal(getattr(read, field), getattr(plain, field)), field


HELLO = BytePairs(b"Helo", ((b"H", b"e"), (b"l", b"l"), (b"He", b"ll"), (b"Hell", b"o")))
LETTERS = BytePairs(b"Helo", ((b"l", b"o"),))


def test_sampled_ids_that_are_no_canonical_tokens_stay():
    """The student spelled `He|l|lo`; the teacher reads `Hello`, and the student's own tokens stand."""
    student = BytePairs(b"Helo", ((b"H", b"e"), (b"l", b"o")))
    ids = [student.tokens.index(t) for t in (b"He", b"l", b"lo")]
    reading = reader(student, HELLO).read([[*ids, student.end]])[0]
    assert [HELLO.pieces[i] for i in reading.teacher] == [b"Hello", None]
    assert reading.starts == ([0, 3], [0, 1])
    assert reading.long == [0]


def test_a_cut_inside_a_character_loses_that_character_only():
    split, whole = BytePairs(b"a\xc3\xa9"), BytePairs(b"a\xc3\xa9", ((b"\xc3", b"\xa9"),))
    ids = [split.tokens.index(bytes([b])) for b in "aéa".encode()]
    assert reader(split, whole).read([ids])[0].starts == ([0, 1, 3], [0, 1, 2])
    assert reader(split, BytePairs(b"a\xc3\xa9", ((b"a", b"\xc3"),))).read([ids[:2]])[0].starts == ([], [])


def test_text_that_the_teacher_cannot_write_ends_what_is_compared():
    student, teacher = BytePairs(b"ab#"), BytePairs(b"ab")
    reading = reader(student, teacher).read([[0, 1, 2, 0, student.end]])[0]
    assert reading.starts == ([0, 1], [0, 1])
    assert reading.teacher == [0, 1]


@pytest.mark.parametrize("lengths", [([1, 2, 1], [3, 1]), ([3], [1, 1, 1]), ([2, 2], [1, 3])])
def test_chunks_lie_between_common_boundaries(lengths):
    ours, theirs = ({sum(side[:i]) for i in range(len(side) + 1)} for side in lengths)
    starts, _ = chunks(*lengths, agreed=sum(lengths[0]), ended=True)
    assert [sum(lengths[0][:i]) for i in starts[0]] == sorted(ours & theirs)


def test_rows_of_positions_are_cut_to_what_they_need():
    ids = torch.tensor([[0, 1, 2, 3, 5], [0, 5, 0, 0, 0]])
    rollout = Rollout(ids, torch.tensor([[True] * 5, [True, True, False, False, False]]), torch.zeros(2))
    positions = reader(LETTERS, HELLO)(rollout)
    short = positions.select(torch.tensor([1]))
    assert short.student_starts.shape == short.teacher_starts.shape == (1, 2)
    assert short.student_starts.sum() == short.teacher_starts.sum() == 2
