"""Is a response right? Answers are found here and compared in worker processes that can be killed. No torch here."""

import atexit
import json
import os
import queue
import re
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.results import Grade, Problem

WORKERS = 2
DEADLINE = 5.0  # seconds for one response
START = 120.0  # seconds for a worker to load its libraries
TAIL = 2000  # characters at the end of a response in which an answer without a box is looked for

_TOKEN = re.compile(r"(?P<box>\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox)\s*\{([^{}]*)\}")
_NOISE = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;: ]|\^\{?\\circ\}?|\\\$|[$~]|\\[()\[\]]")
_FRACTION = re.compile(r"(?<![0-9}])(-?)\\frac\{(-?[0-9]{1,40})\}\{([0-9]{1,40})\}")
_NUMBER = re.compile(r"-?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:/[0-9]{1,40})?")
_GROUPED = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9])")
_WORDS = re.compile(r"[^\W\d_][^\W\d_ .'-]*(?:[ .'-]+[^\W\d_]+)*")
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
    text = _WRAPPED.sub(r"\1", re.sub(r"\\[dtc]frac", r"\\frac", text))
    text = re.sub(r"\\frac([0-9])([0-9])", r"\\frac{\1}{\2}", text)
    text = _NOISE.sub("", text.replace(r"\%", "%")).strip().rstrip(".").strip()
    if _WORDS.fullmatch(text) and len(text) > 1:
        return " ".join(text.casefold().split())
    text = re.sub(r"\s+", "", text)
    value = number(_plain(text))
    return text if value is None else str(value)


def number(text: str) -> Fraction | None:
    """The value of a plain number (`-3`, `0.5`, `1/2`), or None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    top, _, bottom = text.partition("/")
    return Fraction(top) / Fraction(bottom or 1) if not bottom or Fraction(bottom) else None


def _plain(text: str) -> str:
    """Fractions as `a/b`, numbers without thousands separators."""
    return _FRACTION.sub(r"\1\2/\3", _GROUPED.sub(lambda m: re.sub(r"[{},]", "", m[0]), text))


def grade(problems: Sequence[Problem], texts: Sequence[str]) -> list[Grade]:
    """One `Grade` for each response; `texts[i]` answers `problems[i]`.

    `math`: boxed answers are compared with the reference, as normalised strings and whole numbers where that decides,
    else by math-verify. A response without a box is judged by what math-verify itself finds in its last 2,000
    characters ("The answer is 12."), which then counts as its first, last and only answer.
    `reasoning_gym`: the task's own verifier scores each boxed answer; without a box, what follows the last "Answer:",
    else the last line (the last number, if the reference is one).
    `lab`: see `esr.lab.task`.
    A verifier that raises, dies or takes longer than 5 s for a response leaves None for what it did not decide, never
    "wrong". Raises `UserError` for a problem without a reference answer, and when no worker can start.
    """
    if len(problems) != len(texts):
        raise ValueError(f"{len(problems)} problems, but {len(texts)} texts")
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(_grade, problems, texts))


def majority(grades: Sequence[Grade]) -> float:
    """Whether the most frequent answer is right: 1 or 0, or the right share of those that tie.

    Responses without an answer vote together, and are never right. Raises `ValueError` for no grades.
    """
    votes = Counter(grade.answer for grade in grades)
    top = [answer for answer, count in votes.items() if count == max(votes.values())]
    right = {grade.answer for grade in grades if grade.last and grade.answer is not None}
    if not top:
        raise ValueError("no grades to take a majority of")
    return len(right.intersection(top)) / len(top)


def repetitive(text: str) -> bool:
    """Whether the response ends in a loop: its last 1,000 characters deflate to less than a fifth. Shorter than
    200 characters is never a loop. Prose and worked solutions deflate to a third or more."""
    tail = text[-1000:].encode("utf-8", "replace")
    return len(text) >= 200 and len(zlib.compress(tail, 9)) < 0.2 * len(tail)


def _grade(problem: Problem, text: str) -> Grade:
    if problem.grader == "lab":
        from esr.lab import task

        return task.grade(problem, text)
    return _grade_gym(problem, text) if problem.grader == "reasoning_gym" else _grade_math(problem, text)


def _grade_math(problem: Problem, text: str) -> Grade:
    if problem.answer is None:
        raise UserError(f"Problem {problem.id} has no reference answer; set the task's `answer` column.")
    reference = rf"\boxed{{{problem.answer}}}"
    if not text.strip():
        return Grade(first=False, last=False, any=False)
    boxed = extract(text)
    if not boxed:
        right, found = _judge("math", reference, [text[-TAIL:]])[0]
        key = normalise(found) if found else None
        return Grade(first=right, last=right, any=right, answer=key, answers=int(bool(found)))
    verdicts = {answer: _same(answer, problem.answer) for answer in _by_weight(boxed)}
    unsure = [answer for answer, verdict in verdicts.items() if verdict is None]
    judged = _judge("math", reference, [rf"\boxed{{{answer}}}" for answer in unsure])
    return _summary(boxed, verdicts | {answer: right for answer, (right, _) in zip(unsure, judged, strict=True)})


def _grade_gym(problem: Problem, text: str) -> Grade:
    oracle = str(problem.data["entry"].get("answer") or "")
    found = [_gym_answer(answer, oracle) for answer in extract(text)] or [_gym_unboxed(text, oracle)]
    if not found[-1]:
        return Grade(first=False, last=False, any=False)
    order = _by_weight(found)
    judged = _judge("reasoning_gym", problem.data, order)
    return _summary(found, {answer: right for answer, (right, _) in zip(order, judged, strict=True)})


def _summary(answers: list[str], right: dict[str, bool | None]) -> Grade:
    """The grade of a response with these answers, given the verdict on each different one."""
    verdicts = set(right.values())
    best = True if True in verdicts else None if None in verdicts else False
    key = normalise(answers[-1])
    return Grade(first=right[answers[0]], last=right[answers[-1]], any=best, answer=key, answers=len(answers))


def _by_weight(answers: list[str]) -> list[str]:
    """Different answers, those that matter most first: a deadline cuts the others off."""
    return list(dict.fromkeys([answers[-1], answers[0], *answers]))


def _same(answer: str, reference: str) -> bool | None:
    """Whether two answers are surely the same (True) or surely not (False); None where math-verify has to say."""
    left, right = normalise(answer), normalise(reference)
    if left == right:
        return bool(left)
    whole = [value is not None and value.denominator == 1 for value in (number(left), number(right))]
    words = _WORDS.fullmatch(left) and _WORDS.fullmatch(right) and len(right) > 3  # to math-verify a product of letters
    return False if all(whole) or words else None


def _gym_answer(found: str, oracle: str) -> str:
    """The part of a found answer that the task's verifier reads: a number where the oracle is one."""
    text = _WRAPPED.sub(r"\1", found).strip().strip("*$").strip()
    if _NUMBER.fullmatch(oracle):
        numbers = re.findall(rf"(?<![0-9.])(?:{_NUMBER.pattern})", _plain(text.replace("−", "-")))
        return numbers[-1].rstrip(".") if numbers else text
    return text if oracle.endswith(".") else text.rstrip(".")


def _gym_unboxed(text: str, oracle: str) -> str:
    """What follows the last "Answer:" (a number in the line that follows), else the last line (number) of the text."""
    numeric, marks = _NUMBER.fullmatch(oracle), list(_ANSWER.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].partition("</answer>")[0].strip("* \n")
        return _gym_answer(rest.partition("\n")[0] if numeric else rest, oracle)
    return _gym_answer(text[-TAIL:] if numeric else text.strip().rpartition("\n")[2], oracle)


Judged = tuple[bool | None, str | None]


class _Worker:
    """A checking process: started when it is first needed, killed and replaced when it is late or dead."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None

    def judge(self, job: tuple[str, Any, list[str]]) -> list[Judged]:
        """A verdict for each candidate; (None, None) for those that were not decided in time."""
        verdicts: list[Judged] = []
        self._hand_over(job)
        end = time.monotonic() + DEADLINE
        try:
            for _ in job[2]:
                right, found = self._receive(end - time.monotonic())
                verdicts.append((right, found))
        except (OSError, EOFError):  # TimeoutError is an OSError
            self.stop()
        return verdicts + [(None, None)] * (len(job[2]) - len(verdicts))

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self.process is not None and self.connection is not None:
            self.process.kill()
            self.process.wait()
            self.connection.close()
        self.process = self.connection = None

    def _hand_over(self, job: tuple[str, Any, list[str]]) -> None:
        """Give the job to the process and wait until it has loaded its libraries; if it is dead, to a new one."""
        for _ in range(2):
            connection = self.connection or self._start()
            try:
                connection.send(job)
                self._receive(START)
                return
            except (OSError, EOFError):
                self.stop()
        library = "math_verify" if job[0] == "math" else "reasoning_gym"
        raise UserError(f'Grading cannot start its worker process; does `{sys.executable} -c "import {library}"` work?')

    def _receive(self, seconds: float) -> Any:
        assert self.connection is not None
        if not self.connection.poll(max(seconds, 0)):
            raise TimeoutError
        return json.loads(self.connection.recv_bytes())

    def _start(self) -> Connection:
        """In a session of its own, so that Ctrl-C in a terminal does not reach it."""
        self.connection, theirs = Pipe()
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "esr.grading_worker", str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        return self.connection


_workers: queue.Queue[_Worker] = queue.Queue()
for _ in range(WORKERS):
    _workers.put(_Worker())


def _judge(grader: str, reference: Any, candidates: list[str]) -> list[Judged]:
    """Verdicts from a free worker, in the order of `candidates`."""
    if not candidates:
        return []
    worker = _workers.get()
    try:
        return worker.judge((grader, reference, candidates))
    finally:
        _workers.put(worker)


@atexit.register
def stop_workers() -> None:
    """Kill the idle worker processes; the next call of `grade` starts new ones."""
    for worker in list(_workers.queue):
        worker.stop()
