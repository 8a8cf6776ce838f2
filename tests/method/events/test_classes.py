"""Event classes of two vocabularies: links, components, and what becomes of tokens that spell nothing."""

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_pairs import BytePairs
from esr.method.events.classes import LEFT_OUT, components, first_piece, shared_plus_rest

STUDENT = BytePairs(b"Helo ", ((b"H", b"e"), (b"l", b"l"), (b"l", b"o"), (b"He", b"l")))
TEACHER = BytePairs(b"Helo ", ((b"H", b"e"), (b"l", b"l"), (b"He", b"ll"), (b"Hell", b"o")))
BOTH = (STUDENT.encode, TEACHER.encode)


def by_token(labels, student=STUDENT, teacher=TEACHER):
    """The class of each spelling, on both sides."""
    return [
        {piece: int(k) for piece, k in zip(tok.pieces, side)}
        for tok, side in zip((student, teacher), labels, strict=True)
    ]


def test_a_token_that_one_side_lacks_joins_the_first_piece_it_is_written_with():
    ours, theirs = by_token(first_piece(STUDENT.pieces, TEACHER.pieces, BOTH, [(STUDENT.end, TEACHER.end)]))
    # the student writes `Hello` as `Hel|lo`, and the teacher `Hel` as `He|l`
    assert ours[b"Hel"] == theirs[b"Hello"] == theirs[b"Hell"] == ours[b"He"] == theirs[b"He"]
    assert ours[b"lo"] == theirs[b"l"] == ours[b"l"]
    assert ours[b"ll"] == theirs[b"ll"] != ours[b"l"]
    assert ours[b"o"] == theirs[b"o"] not in (ours[b"l"], ours[b"H"])
    assert ours[None] == theirs[None]


def test_shared_tokens_plus_rest_are_singles_and_one_class():
    ours, theirs = by_token(shared_plus_rest(STUDENT.pieces, TEACHER.pieces, [(STUDENT.end, TEACHER.end)]))
    shared = set(STUDENT.tokens) & set(TEACHER.tokens)
    rest = {ours[t] for t in STUDENT.tokens if t not in shared} | {theirs[t] for t in TEACHER.tokens if t not in shared}
    assert len(rest) == 1
    assert len({ours[t] for t in shared} | rest | {ours[None]}) == len(shared) + 2
    assert all(ours[t] == theirs[t] for t in shared)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.data())
def test_components_are_those_of_a_plain_search(count, data):
    node = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(node, node), max_size=25))
    group = list(range(count))
    for a, b in links:
        group = [group[a] if g == group[b] else g for g in group]
    found = components(count, np.array(links, dtype=np.int64).reshape(-1, 2))
    assert [group.index(g) for g in group] == found.tolist()


def test_columns_that_spell_nothing_are_one_event_where_both_sides_have_some_and_left_out_elsewhere():
    pieces = (b"a", None, None, None)
    encode = (lambda texts: [], lambda texts: [])
    ours, theirs = first_piece(pieces, pieces, encode, [(1, 2)])
    assert ours[1] == theirs[2] and ours[2] == ours[3] == theirs[1] == theirs[3] != ours[1]
    ours, theirs = first_piece(pieces, (b"a", None), encode, [(1, 1)])
    assert ours[2] == ours[3] == LEFT_OUT and (theirs != LEFT_OUT).all()


def test_the_classes_of_large_vocabularies_take_seconds():
    """50k x 256k tokens, half of the smaller one shared; the tokenizers themselves are left out of the time."""
    small = (*(b"%d" % i for i in range(0, 100_000, 2)), None)
    large = (*(b"%d" % i for i in range(0, 256_000, 4)), *(b"x%d" % i for i in range(192_000)), None)

    def encode(texts):
        return [[i % 50_000] for i in range(len(texts))]

    start = time.process_time()
    ours, theirs = first_piece(small, large, (encode, encode))
    assert time.process_time() - start < 5
    assert len(ours) == 50_001 and len(theirs) == 256_001 and set(ours) == set(theirs)
