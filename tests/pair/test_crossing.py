"""How well a pair with two tokenizers can be compared: measured, said, and refused where it is too little."""

import itertools
import re
import time

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from esr.errors import UserError
from esr.models.spelling import read_spelling
from esr.pair.crossing import Crossing
from tiny import LETTERS, make_tokenizer

WORDS = [f"{a}{b}{c}-" for a, b, c in itertools.product(["stone", "water", "light"], ["fall", "house"], range(33))]


def single_bytes() -> PreTrainedTokenizerFast:
    """Byte level without any merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(["<|im_end|>", *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")


def crossing(student, teacher) -> Crossing:
    ends = [(t.eos_token_id,) for t in (student, teacher)]
    sides = [read_spelling(t, len(t), e, name) for t, e, name in zip((student, teacher), ends, ("s", "t"))]
    return Crossing(sides[0], sides[1], (ends[0], ends[1]))


def test_a_pair_with_little_in_common_is_refused_within_seconds_with_the_share():
    """Single bytes against some two hundred words of about twelve: one start in twelve is common."""
    texts = ["".join(WORDS[i:] + WORDS[:i]) for i in range(0, len(WORDS), 9)]
    share = len(WORDS) / len("".join(WORDS))
    start = time.process_time()
    with pytest.raises(UserError, match=re.escape(f"at only {share:.0%} of the student's positions")):
        crossing(single_bytes(), make_tokenizer(letters=WORDS)).measure(texts, merge=True)
    assert time.process_time() - start < 5


def test_words_that_cannot_write_the_text_are_refused_with_the_text():
    with pytest.raises(UserError, match=r"^t: its tokenizer does not keep text as it is: .*'waterfly'"):
        crossing(single_bytes(), make_tokenizer(letters=WORDS)).measure([WORDS[0], "waterfly"], merge=True)


def test_what_is_measured_is_what_can_be_counted_by_hand():
    """The student joins `ab`, the teacher `bc`: `abc` is `ab|c` and `a|bc`, with no common start inside."""
    ours, theirs = make_tokenizer(letters=[*LETTERS, "ab"]), make_tokenizer(letters=[*LETTERS, "bc"])
    found = crossing(ours, theirs).measure(["xabcx", "ax"], merge=True)
    assert (found.positions, found.text_bytes) == (4 + 2, 7)
    assert found.common == pytest.approx(5 / 6)  # all but the student's `c`
    assert found.chunk_rest == pytest.approx(1 / 5)  # `abc`
    assert found.disagreement == 0  # `ab` and `a` are one class
    assert found.shared == found.student_tokens - 1 == found.teacher_tokens - 1


def test_shared_tokens_alone_would_disagree_where_classes_do_not():
    ours, theirs = make_tokenizer(letters=[*LETTERS, "ab"]), make_tokenizer(letters=[*LETTERS, "bc"])
    pair = crossing(ours, theirs)
    ab, a = ours.convert_tokens_to_ids("ab"), theirs.convert_tokens_to_ids("a")
    classes, shared = pair.labels(True), pair.labels(True, "shared_plus_rest")
    assert classes[0][ab] == classes[1][a] and shared[0][ab] != shared[1][a]
