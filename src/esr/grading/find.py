"""Answers in a response: where they stand."""

import re
import zlib
from itertools import pairwise

from esr.grading.spelling import is_words, spell

TAIL = 2000  # characters at the end of a response in which an answer without a box is looked for
NEAR = 150  # characters between boxes that can be one answer in parts
_TOKEN = re.compile(r"(?P<box>\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
MARK = re.compile(
    r"answer\s*(?:\*\*|__)?\s*(?:is\s*)?:|answer\s+is\b|\banswers\s*(?:are\b|:)|\banswer\s*=|(?:^|\n)(?:"
    r"[ \t]*(?:#{1,6}|\*\*|__)[ \t]*(?:(?:the|my|our) )?(?:final |correct )?answer(?:[ \t]*(?:\*\*|__|#+))?[ \t]*(?=\n)|####)",
    re.IGNORECASE,
)
"""What stands before an answer: "the answer is", "Answer:", a heading of its own (`### Final Answer`), `####`."""
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-z]{1,20}\*?\}")
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_MARKED = re.compile(
    r"\*\*(?=\S)(.{1,80}?)\*\*|`([^`\n]{1,80})`|\\\((.{1,200}?)\\\)|(?<![\\$])\$(?!\$)([^$\n]{1,200}?)(?<!\\)\$(?![0-9])"
)
_BETWEEN = re.compile(r"\s*(?:(?:,|and|or|,\s*and|,\s*or)\s*)+")
_DISPLAY = re.compile(r"\s*(?:\\\[(.{1,300}?)\\\]|\$\$(.{1,300}?)\$\$)", re.DOTALL)
_SENTENCE = re.compile(
    r".*?(?=\.(?:\s|\*|$)|\n|!|\?|,? (?:because|since|which|so that|as (?:we|the)|rather than)\b|,? \(?(?:and )?not\b|$)",
    re.DOTALL,
)
_FILLER = re.compile(
    r"^(?:[\s:*_]|(?:therefore|thus|hence|simply|indeed|then|equal to|given by|option|choice(?= is))\b)+", re.IGNORECASE
)


def after_thinking(text: str) -> str:
    """What follows the last `</think>`, if anything does."""
    rest = text.rpartition("</think>")[2]
    return rest if rest.strip() else text


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every closed `\\boxed{...}` and `\\fbox{...}`, in order; of nested boxes the innermost.

    Empty ones (an echo of the instruction) do not count, nor one that is never closed.
    """
    found: list[tuple[int, int, str]] = []
    opened: list[int] = []  # where the content of each open brace starts; -1 for one that is no box
    innermost = -1
    for token in _TOKEN.finditer(text):
        if token["box"]:
            opened.append(token.end())
        elif token[0] == "{":
            opened.append(-1)
        elif token[0] == "}" and opened:
            start = opened.pop()
            content = text[start : token.start()].strip() if start > innermost else ""
            if content:
                found.append((start, token.end(), content))
                innermost = start
    return found


def extract(text: str) -> list[str]:
    """The contents of the boxes of a response, in order."""
    return [content for _, _, content in boxes(text)]


def in_parts(text: str, count: int) -> str | None:
    """The last `count` different boxes as one list, if they stand close together."""
    found = boxes(text)[-count:]
    apart = any(later[0] - earlier[1] > NEAR for earlier, later in pairwise(found))
    parts = list(dict.fromkeys(content for _, _, content in found))
    return ", ".join(parts) if len(parts) == count > 1 and not apart else None


def unboxed(text: str) -> str | None:
    """The answer of a response without a box: in `<answer>` tags, after the last "answer is", or set off at the end.

    None where nothing marks it.
    """
    if tagged := _TAGGED.findall(text[-TAIL * 4 :]):
        return tagged[-1].strip() or None
    text = text[-TAIL:]
    for mark in reversed(list(MARK.finditer(text))):
        if phrase := _phrase(text[mark.end() :]):
            return phrase
    lines = text.strip().splitlines()
    spans = list(_MARKED.finditer(lines[-1])) if lines else []
    for span in reversed(spans):
        content = next(group for group in span.groups() if group)
        if span[0][0] in "*`" and spell(content).value is not None:
            return content
    return None


def _phrase(rest: str) -> str | None:
    """The answer at the head of what follows the mark: the first part that is set off, else to the end of the sentence."""
    rest = re.sub(r"^[\s:]*\n[ \t]*[-*•][ \t]+", "", rest)  # an item of a list, not a sign
    rest = _FILLER.sub("", rest, count=1) if not rest.lstrip().startswith("**") else rest.lstrip(" :\n")
    if display := _DISPLAY.match(rest):
        return (display[1] or display[2]).strip() or None
    sentence = _SENTENCE.match(rest)
    head = sentence[0].strip() if sentence else ""
    span = _MARKED.search(rest.partition("\n")[0])
    if span and _BETWEEN.fullmatch(_MARKED.sub("", head)):
        return head
    if span and span.start() <= len(head) and not re.search("[0-9]", rest[: span.start()]):
        return next(group for group in span.groups() if group).strip()
    return head.strip("*_` ") or None


def is_prose(answer: str) -> bool:
    """Whether more than an answer was found: several words, or words beside a number."""
    text = _ENVIRONMENT.sub("", answer)
    return not is_words(text) and len(re.findall(r"(?<!\\)\b[A-Za-z]{3,}", text)) > 1


def repetitive(text: str) -> bool:
    """Whether the response ends in a loop: its last 1,000 characters deflate to less than a fifth. Shorter than
    200 characters is never a loop. Prose and worked solutions deflate to a third or more."""
    tail = text[-1000:].encode("utf-8", "replace")
    return len(text) >= 200 and len(zlib.compress(tail, 9)) < 0.2 * len(tail)
