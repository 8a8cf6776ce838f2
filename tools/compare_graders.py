"""Our grader of answers beside math-verify alone and the extractions of lm-eval and lighteval, on varied responses.

    python tools/compare_graders.py FOLDER        (make grading installs both packages into a folder of its own)

Each response is a reference's right or wrong spelling in one of several styles, so that its verdict is known as it is made.
"""

import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from esr import intervals
from esr.grading import grade
from esr.records.problem import Problem

RESPONSES = 500
SEED = 1
ANSWERS: list[tuple[str, list[str], list[str]]] = [
    ("72", ["72", "72.0", "72.", r"\text{72}", "+72"], ["-72", "7.2", "27", "720", "71"]),
    ("1234", ["1,234", "1234", r"1{,}234", r"1\,234"], ["1, 234", "12.34", "1243", "234"]),
    ("-5", ["-5", r"{-5}", "−5", "-5.0"], ["5", "-0.5", "-15"]),
    ("0.125", ["0.125", r"\frac{1}{8}", "1/8", ".125", r"12.5\%"], ["0.25", r"\frac{1}{4}", "0.0125", "125"]),
    (r"\frac{3}{4}", [r"\frac{3}{4}", "3/4", "0.75", r"\dfrac34", r"75\%"], [r"\frac{4}{3}", "3.4", r"-\frac{3}{4}", "34"]),
    (r"2\frac{1}{2}", ["2.5", r"\frac{5}{2}", r"2\frac{1}{2}", "5/2"], [r"\frac{21}{2}", r"2 \cdot \frac{1}{2}", "1", "2"]),
    (r"\sqrt{2}", [r"\sqrt{2}", r"\sqrt 2", r"2^{1/2}", "√2"], ["2", r"-\sqrt{2}", r"\sqrt{3}", "1.4"]),
    (r"2\sqrt{3}", [r"2\sqrt{3}", r"\sqrt{12}", r"\sqrt{3} \cdot 2"], [r"\sqrt{6}", r"3\sqrt{2}", r"\sqrt{3}", "6"]),
    (r"\frac{\pi}{3}", [r"\frac{\pi}{3}", r"\pi/3", r"\frac{1}{3}\pi"], [r"\frac{\pi}{6}", r"3\pi", "1.05", r"\pi"]),
    ("x^2+2x+1", ["x^2+2x+1", "(x+1)^2", "1+2x+x^2"], ["x^2+2x-1", "x^2+x+1", "(x-1)^2", "x^2"]),
    (r"\frac{x}{y}", [r"\frac{x}{y}", "x/y", r"x y^{-1}"], [r"\frac{y}{x}", "xy", "x-y"]),
    ("(1, 2)", ["(1, 2)", "(1,2)", r"\left(1, 2\right)", r"\left( 1,\, 2 \right)"], ["(2, 1)", "[1, 2]", "(1, 3)", "12"]),
    ("[2, 5)", ["[2, 5)", "[2,5)", r"\left[2, 5\right)"], ["(2, 5)", "[2, 5]", "[2, 6)", "[5, 2)"]),
    (r"(-\infty, 3)", [r"(-\infty, 3)", r"\left(-\infty, 3\right)"], [r"(3, \infty)", r"(-\infty, 3]", "-3"]),
    (r"\{1, 2, 3\}", [r"\{1, 2, 3\}", r"\{3, 1, 2\}", r"\left\{1,2,3\right\}"], [r"\{1, 2\}", r"\{1, 2, 4\}", "123"]),
    ("3, 7", ["3, 7", "7, 3", "3 and 7", "3,7"], ["3, 8", "37", "3", "7, 3, 1"]),
    ("102, 201", ["102, 201", "201, 102", r"102 \text{ and } 201"], ["102201", "102", "201, 103"]),
    ("x=3", ["x=3", "3", "x = 3"], ["x=-3", "y=4", "x=30", "0"]),
    (r"90^\circ", [r"90^\circ", "90", r"90^{\circ}", "90°", "90 degrees"], [r"9^\circ", r"45^\circ", "0.9"]),
    (r"\$18.90", [r"\$18.90", "18.90", "18.9", "$18.90"], [r"\$18.09", "1890", r"\$18", "189"]),
    (r"50\%", [r"50\%", "50%", "0.5", r"\frac{1}{2}", "50 percent"], [r"5\%", "0.05", r"500\%", "5"]),
    (r"12\text{ cm}", [r"12\text{ cm}", "12", "12 cm", r"12\,\mathrm{cm}"], [r"12\text{ m}", "1.2", r"21\text{ cm}"]),
    ("10^{6}", ["10^{6}", "1000000", "1,000,000", r"10^6"], ["10^{5}", "100000", "60", "6"]),
    (r"3.5 \times 10^{-4}", [r"3.5 \times 10^{-4}", "0.00035", r"3.5 \cdot 10^{-4}"], [r"3.5 \times 10^{4}", "0.0035", "3.5"]),
    ("52_8", ["52_8", r"52_{8}"], ["52", "25_8", "52_9"]),
    (r"\text{Friday}", [r"\text{Friday}", "Friday", r"\text{friday}"], [r"\text{Monday}", r"\text{Saturday}", "5"]),
    (r"\text{(B)}", [r"\text{(B)}", "B", "(B)", r"\textbf{(B)}"], ["(A)", "C", r"\text{(D)}"]),
    (r"\text{yes}", [r"\text{yes}", "yes", "Yes"], [r"\text{no}", "no", "maybe"]),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", [r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"],
     [r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}", "12"]),
    ("3 + 4i", ["3 + 4i", "3+4i", "4i + 3"], ["3 - 4i", "4 + 3i", "7", "34"]),
    ("2^{10}", ["2^{10}", "1024", "1,024"], ["2^{9}", "20", "210", "2^{11}"]),
    (r"\frac{1}{2004}", [r"\frac{1}{2004}", "1/2004"], [r"\frac{1}{2006}", "2004", "0.0005"]),
]  # fmt: skip
"""A reference, spellings of it, and answers that are near it but wrong."""
STYLES = [
    r"So the result is \boxed{{{a}}}.",
    r"First \boxed{{{w}}} seems right, but no. The final answer is $\boxed{{{a}}}$.",
    "We add both sides.\nThe answer is {a}.",
    "The answer is: ${a}$",
    "**Answer:** {a}",
    "Adding up.\n#### {a}",
    "<think>Maybe \\boxed{{{w}}}?</think>\nIt is \\boxed{{{a}}}.",
    "Therefore\n\\[ \\boxed{{{a}}} \\]\nas was asked.",
    "Final Answer: The final answer is ${a}$. I hope it is correct.",
    "<answer>{a}</answer>",
]
"""Of responses: `a` is the answer, `w` another one."""
Judge = Callable[[str, str], bool]
"""Reference and response to a verdict."""


def responses() -> list[tuple[str, str, bool]]:
    """Reference, response and truth of each, half of them right."""
    chance, made = random.Random(SEED), {}
    while len(made) < RESPONSES:
        reference, right, wrong = chance.choice(ANSWERS)
        truth = len(made) % 2 == 0
        text = chance.choice(STYLES).format(a=chance.choice(right if truth else wrong), w=chance.choice(wrong))
        made.setdefault((reference, text), truth)
    return [(reference, text, truth) for (reference, text), truth in made.items()]


def math_verify(folder: Path) -> Judge:
    """As its documentation says: both sides parsed with the defaults."""
    from math_verify import parse, verify

    return lambda reference, response: bool(verify(parse(rf"\boxed{{{reference}}}"), parse(response)))


def lm_eval(folder: Path) -> Judge:
    """Their MATH task's: the last box, spellings compared."""
    spec = importlib.util.spec_from_file_location("hendrycks", folder / "lm_eval/tasks/hendrycks_math/utils.py")
    assert spec and spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)

    def judge(reference: str, response: str) -> bool:
        box = theirs.last_boxed_only_string(response)
        return box is not None and bool(theirs.is_equiv(theirs.remove_boxed(box), reference))

    return judge


def lighteval(folder: Path) -> Judge:
    """Their extractive match, expressions and LaTeX, boxes first. Its packages are imported without what they gather."""
    for name in ("lighteval", "lighteval.metrics", "lighteval.tasks"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")))]
    match = importlib.import_module("lighteval.metrics.utils.extractive_match_utils")
    comparison = importlib.import_module("lighteval.metrics.utils.math_comparison")
    english = importlib.import_module("lighteval.utils.language").Language.ENGLISH
    doc = importlib.import_module("lighteval.tasks.requests").Doc(query="", choices=[""], gold_index=0)
    kinds = [
        (match.ExprExtractionConfig(), match.LatexExtractionConfig(boxed_match_priority=priority))
        for priority in (50, 0)
    ]
    gold, written = (match.get_extraction_regexes(doc, kind, english) for kind in kinds)

    def judge(reference: str, response: str) -> bool:
        wanted = match.extract_target_from_pred(rf"$\boxed{{{reference}}}$", gold, "first_match", "any_match", 5)
        found = match.extract_target_from_pred(response, written, "first_match", "any_match", 5)
        return bool(comparison.compare_gold_target(wanted or [reference], found, 6, timeout_seconds=5))

    return judge


OTHERS = {
    "math-verify alone": math_verify,
    "lm-eval (last box, spelling)": lm_eval,
    "lighteval (extractive match)": lighteval,
}


def verdicts(name: str, folder: Path) -> list[bool]:
    """Of another grader on all responses. One that raises has not accepted."""
    judge = OTHERS[name](folder)

    def verdict(reference: str, response: str) -> bool:
        try:
            return judge(reference, response)
        except Exception:
            return False

    return [verdict(reference, text) for reference, text, _ in responses()]


def in_its_own_process(name: str, folder: Path) -> list[bool]:
    """`verdicts`, with the folder's packages before the environment's: lighteval needs an older parser of LaTeX."""
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, __file__, str(folder), name]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def share(hits: list[bool]) -> str:
    """Percent with its interval."""
    return intervals.accuracy([[float(hit)] for hit in hits]).text()


def main(folder: Path) -> None:
    """Print how often each grader is wrong, and how often it disagrees with ours."""
    cases = responses()
    problems = [Problem(id=str(i), question="?", answer=r, grader="answers") for i, (r, _, _) in enumerate(cases)]
    ours = [grade.last for grade in grade(problems, [text for _, text, _ in cases])]
    right = [truth for _, _, truth in cases]
    print(f"{len(cases)} responses (seed {SEED}), {sum(right)} of them right; percent [95% interval]\n")
    print("| grader | wrong verdicts | right ones refused | wrong ones accepted | disagrees with ours |")
    print("|---|---|---|---|---|")
    given = {"esr": [bool(verdict) for verdict in ours]}
    given |= {name: (in_its_own_process if name.startswith("lighteval") else verdicts)(name, folder) for name in OTHERS}
    for name, found in given.items():
        wrong = [f != t for f, t in zip(found, right, strict=True)]
        refused = [not f for f, t in zip(found, right, strict=True) if t]
        accepted = [f for f, t in zip(found, right, strict=True) if not t]
        apart = share([f != o for f, o in zip(found, given["esr"], strict=True)]) if name != "esr" else "-"
        print(f"| {name} | {share(wrong)} | {share(refused)} | {share(accepted)} | {apart} |")
    print(f"\nOurs gave no verdict on {ours.count(None)}.")
    for (reference, text, truth), found in zip(cases, ours, strict=True):
        if found != truth:
            print(f"  ours: {found}, should be {truth}: {reference!r} against {text!r}")


if __name__ == "__main__":
    where = Path(sys.argv[1]).absolute()
    if len(sys.argv) > 2:
        print(json.dumps(verdicts(sys.argv[2], where)))
    else:
        main(where)
