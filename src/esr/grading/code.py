"""Programs: the code in a response, run in a sandbox and judged from outside by the values that it returns.

Two isolated processes talk through this one. The candidate's process runs the response and answers calls; the judge's process holds
the task's test, and for it the candidate is a function that sends its arguments out and gets a value of plain types back. So a
response that prints "passed", exits, patches a comparison or reads what the tests expect gains nothing: it never shares a process
with them.
"""

import ast
import re
from typing import Any

from esr.errors import UserError
from esr.grading.sandbox import Sandbox, SandboxError
from esr.records.evaluation import Grade
from esr.records.problem import Problem

SECONDS = 10.0
"""Of its processor's time for one response, all its tests together."""

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
STOPS = ("\nclass ", "\ndef ", "\n# ", "\nif __name__", "\nprint(", "\n```", "\nassert ")
"""Where a completion that runs on past its function is cut, as in the harnesses of HumanEval."""


def grade(problem: Problem, text: str) -> Grade:
    """Whether the program in `text` passes the problem's tests.

    `problem.data` has `test` (Python that calls the functions named in `names` and raises if a value is wrong), `setup` (the
    task's own code: helpers of the test and the reference solution), `prompt` (code that a completion continues; may be
    empty), `check` (the reference's name, for tests that compare with it) and `unsafe` (run it without isolation). Raises
    `UserError` if the judge's process cannot work.
    """
    source = extract(text, problem.data["names"], problem.data.get("prompt", ""))
    if source is None:
        return Grade(first=False, last=False, any=False)
    right, why = run(source, problem.data, problem.data.get("unsafe", False))
    note = f"the judge broke off: {why}" if right is None else None
    return Grade(first=right, last=right, any=right, answer=source.strip(), answers=1, note=note)


def run(source: str, data: dict[str, Any], unsafe: bool = False, seconds: float = SECONDS) -> tuple[bool | None, str]:
    """Whether `source` passes the tests in `data`, and why not.

    A program that ends too early, too late or never is wrong. None: the judge's own process broke off, which says nothing of
    the program. Raises `UserError` if that process cannot start.
    """
    with Sandbox("judge", 2 * seconds, unsafe) as judge, Sandbox("candidate", seconds, unsafe) as candidate:
        try:
            judge.send(
                {"setup": data["setup"], "test": data["test"], "names": data["names"], "check": data.get("check")}
            )
        except SandboxError as error:
            raise UserError(f"The judge of a code problem cannot start ({error}).") from None
        try:
            candidate.send({"source": source})
            if problem := candidate.receive().get("error"):
                return False, f"the program raised {problem}"
        except SandboxError as error:
            return False, f"the program: {error}"
        while True:
            try:
                message = judge.receive()
            except SandboxError as error:
                return None, str(error)
            if "verdict" in message:
                return bool(message["verdict"]), str(message["error"])
            answer: dict[str, Any]
            try:
                candidate.send(message)
                answer = candidate.receive()
            except SandboxError as error:
                return False, f"the program: {error}"
            try:
                judge.send({key: answer[key] for key in ("value", "error") if key in answer} or {"error": "NoAnswer"})
            except SandboxError as error:
                return None, str(error)


def extract(text: str, names: list[str], prompt: str = "") -> str | None:
    """The program in a response, or None if there is none that Python can parse.

    Fenced blocks first: the last one that defines one of `names`, then all Python blocks together. A response without a fence
    is a program with prose around it (the longest run of lines that parses and defines a name), or it continues `prompt`.
    Imports and helpers of `prompt` are put in front.
    """
    text = text.rpartition("</think>")[2]
    blocks = [body for kind, body in _FENCE.findall(text) if kind.lower() in ("", "python", "py", "python3")]
    for body in [*reversed(blocks), "\n\n".join(blocks)]:
        if defines(body, names):
            return _with_preamble(body, prompt)
    if not blocks and prompt:
        cut = min((i for stop in STOPS if (i := text.find(stop)) >= 0), default=len(text))
        for end in (cut, len(text)):
            if (body := _parseable_head(prompt, text[:end])) is not None and defines(body, names):
                return body
    body = _longest(text, names)
    return _with_preamble(body, prompt) if body is not None else None


def defines(source: str, names: list[str]) -> bool:
    """Whether `source` parses and defines one of `names` at its top level."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    found = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    found |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return bool(found & set(names))


def _with_preamble(body: str, prompt: str) -> str:
    """What stands in the prompt before its last function: imports and helpers that the response may rely on."""
    head = re.split(r"^(?=def )", prompt, flags=re.MULTILINE)
    preamble = "".join(head[:-1])
    try:
        ast.parse(preamble)
    except SyntaxError:
        return body
    return f"{preamble}\n{body}" if preamble.strip() else body


def _parseable_head(prompt: str, text: str) -> str | None:
    """`prompt` with the longest head of the completion's lines that parses."""
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        body = prompt + "\n".join(lines[:end]) + "\n"
        try:
            ast.parse(body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return body
    return None


def _longest(text: str, names: list[str]) -> str | None:
    """The longest run of lines that parses and defines one of `names`, from a line that looks like code."""
    lines = text.splitlines()[:400]
    starts = [i for i, line in enumerate(lines) if re.match(r"(def|class|import|from|@|async def)\b|@", line)]
    best: tuple[int, str] | None = None
    for start in starts[:20]:
        for end in range(len(lines), start, -1):
            if best and end - start <= best[0]:
                break
            if defines(body := "\n".join(lines[start:end]), names):
                best = (end - start, body)
                break
    return best[1] if best else None
