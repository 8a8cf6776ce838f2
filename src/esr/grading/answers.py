"""Answers in a response: found, and brought to one spelling."""

import re
import zlib
from fractions import Fraction

from esr.records.evaluation import Grade

TAIL = 2000  # characters at the end of a response in which an answer without a box is looked for
_TOKEN = re.compile(r"(?P<box>\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox)\s*\{([^{}]*)\}")
_NOISE = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;: ]|\^\{?\\circ\}?|\\\$|[$~]|\\[()\[\]]")
_FRACTION = re.compile(r"(?<![0-9}])(-?)\\frac\{(-?[0-9]{1,40})\}\{([0-9]{1,40})\}")
NUMBER = re.compile(r"-?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:/[0-9]{1,40})?")
_GROUPED = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9])")
WORDS = re.compile(r"[^\W\d_][^\W\d_ .'-]*(?:[ .'-]+[^\W\d_]+)*")
_ANSWER = re.compile(r"answer\s*(?:is\s*)?:|answer\s+is\b|<answer>", re.IGNORECASE)


def extract(text: str) -> list[str]:
    """The contents of every closed `\\boxed{...}` and `\\fbox{...}`, in order; of nested boxes the innermost.

    Empty ones (an echo of the instruction) do not count, nor one that is never closed.
    """
    answers: list[str] = []
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
                answers.append(content)
                innermost = start
    return answers


def normalise(answer: str) -> str:
    """One spelling for answers that are surely the same: the key of voting, and of the comparison without math-verify.

    Layout commands, text wrappers, thousands separators, degree and currency signs go; numbers become integers or
    fractions in lowest terms; plain words become lower case.
    """
    text = answer.encode("utf-8", "replace").decode().replace("−", "-").strip().strip("*").strip()
    text = WRAPPED.sub(r"\1", re.sub(r"\\[dtc]frac", r"\\frac", text))
    text = re.sub(r"\\frac([0-9])([0-9])", r"\\frac{\1}{\2}", text)
    text = _NOISE.sub("", text.replace(r"\%", "%")).strip().rstrip(".").strip()
    if WORDS.fullmatch(text) and len(text) > 1:
        return " ".join(text.casefold().split())
    text = re.sub(r"\s+", "", text)
    value = number(plain(text))
    return text if value is None else str(value)


def number(text: str) -> Fraction | None:
    """The value of a plain number (`-3`, `0.5`, `1/2`), or None for anything else."""
    if not NUMBER.fullmatch(text):
        return None
    top, _, bottom = text.partition("/")
    return Fraction(top) / Fraction(bottom or 1) if not bottom or Fraction(bottom) else None


def plain(text: str) -> str:
    """Fractions as `a/b`, numbers without thousands separators."""
    return _FRACTION.sub(r"\1\2/\3", _GROUPED.sub(lambda m: re.sub(r"[{},]", "", m[0]), text))


def repetitive(text: str) -> bool:
    """Whether the response ends in a loop: its last 1,000 characters deflate to less than a fifth. Shorter than
    200 characters is never a loop. Prose and worked solutions deflate to a third or more."""
    tail = text[-1000:].encode("utf-8", "replace")
    return len(text) >= 200 and len(zlib.compress(tail, 9)) < 0.2 * len(tail)


def summary(answers: list[str], right: dict[str, bool | None]) -> Grade:
    """The grade of a response with these answers, given the verdict on each different one."""
    verdicts = set(right.values())
    best = True if True in verdicts else None if None in verdicts else False
    key = normalise(answers[-1])
    return Grade(first=right[answers[0]], last=right[answers[-1]], any=best, answer=key, answers=len(answers))


def by_weight(answers: list[str]) -> list[str]:
    """Different answers, those that matter most first: a deadline cuts the others off."""
    return list(dict.fromkeys([answers[-1], answers[0], *answers]))
