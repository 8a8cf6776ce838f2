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
SETS = json.loads(Path(__file__).with_name("graded_answers.json").read_text(encoding="utf-8"))
"""Two sets: references, right spellings of each, answers that are near it but wrong; and styles of responses, in which
`a` is the answer and `w` another one. The grader was mended on the known one; see docs/faults.md for the fresh one."""
SEEDS = {"known": 1, "fresh": 2}
Judge = Callable[[str, str], bool]
"""Reference and response to a verdict."""


def responses(which: str) -> list[tuple[str, str, bool]]:
    """Reference, response and truth of each of a set, half of them right."""
    chance = random.Random(SEEDS[which])
    made: dict[tuple[str, str], bool] = {}
    while len(made) < RESPONSES:
        answer = chance.choice(SETS[which]["answers"])
        truth = len(made) % 2 == 0
        style = chance.choice(SETS[which]["styles"])
        text = style.format(a=chance.choice(answer["right" if truth else "wrong"]), w=chance.choice(answer["wrong"]))
        made.setdefault((answer["reference"], text), truth)
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


def verdicts(name: str, folder: Path, which: str) -> list[bool]:
    """Of another grader on all responses of a set. One that raises has not accepted."""
    judge = OTHERS[name](folder)

    def verdict(reference: str, response: str) -> bool:
        try:
            return judge(reference, response)
        except Exception:
            return False

    return [verdict(reference, text) for reference, text, _ in responses(which)]


def in_its_own_process(name: str, folder: Path, which: str) -> list[bool]:
    """`verdicts`, with the folder's packages before the environment's: lighteval needs an older parser of LaTeX."""
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, __file__, str(folder), name, which]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def share(hits: list[bool]) -> str:
    """Percent with its interval."""
    return intervals.accuracy([[float(hit)] for hit in hits]).text()


def compare(which: str, folder: Path) -> None:
    """Print how often each grader is wrong on a set, and how often it disagrees with ours."""
    cases = responses(which)
    problems = [Problem(id=str(i), question="?", answer=r, grader="answers") for i, (r, _, _) in enumerate(cases)]
    ours = [grade.last for grade in grade(problems, [text for _, text, _ in cases])]
    right = [truth for _, _, truth in cases]
    print(
        f"{len(cases)} responses of the {which} set (seed {SEEDS[which]}), {sum(right)} of them right; percent [95%]\n"
    )
    print("| grader | wrong verdicts | right ones refused | wrong ones accepted | disagrees with ours |")
    print("|---|---|---|---|---|")
    given = {"esr": [bool(verdict) for verdict in ours]}
    for name in OTHERS:
        given[name] = (in_its_own_process if name.startswith("lighteval") else verdicts)(name, folder, which)
    for name, found in given.items():
        wrong = [f != t for f, t in zip(found, right, strict=True)]
        refused = [not f for f, t in zip(found, right, strict=True) if t]
        accepted = [f for f, t in zip(found, right, strict=True) if not t]
        apart = share([f != o for f, o in zip(found, given["esr"], strict=True)]) if name != "esr" else "-"
        print(f"| {name} | {share(wrong)} | {share(refused)} | {share(accepted)} | {apart} |")
    print(f"\nOurs gave no verdict on {ours.count(None)}.")
    for (reference, text, truth), verdict in zip(cases, ours, strict=True):
        if verdict != truth:
            print(f"  ours: {verdict}, should be {truth}: {reference!r} against {text!r}")


if __name__ == "__main__":
    where = Path(sys.argv[1]).absolute()
    if len(sys.argv) > 2:
        print(json.dumps(verdicts(sys.argv[2], where, sys.argv[3])))
    else:
        for each in SETS:
            compare(each, where)
            print()
