"""Evaluations as lm-eval and inspect write them, read back by those packages (`make evals`).

.venv/bin/python tests/runs/harnesses.py write FOLDER
.venv-evals/bin/python tests/runs/harnesses.py read FOLDER        where lm-eval and inspect-ai are installed
"""

import json
import sys
from pathlib import Path


def write(folder: Path) -> list[Path]:
    """A small evaluation, in both forms: two problems, two responses each, one of which the grader failed on."""
    from esr.evaluation.summarise import summarise
    from esr.records.evaluation import Evaluated, Grade, Sample
    from esr.records.problem import Message, Problem
    from esr.runs import abroad

    context = (Message(role="user", content="Hi"), Message(role="assistant", content="Yes?"))
    problems = {
        "a": Problem(id="a", question="1 + 1?", answer="2", context=context),
        "b": Problem(id="b", question="2 + 2?", answer="4"),
    }
    verdicts = {"a": (True, False), "b": (True, None)}
    samples = [
        Sample(problem=name, sample=i, text=f"It is {i} \u2028\n", tokens=5 + i, finished=i == 0, repetitive=False,
               grade=Grade(first=right, last=right, any=right, answer=str(i)))
        for name, rights in verdicts.items() for i, right in enumerate(rights)
    ]  # fmt: skip
    settings = {
        "source": "own/task",
        "samples": 2,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_new_tokens": 9,
        "stop": ["Q:"],
    }
    found = summarise(samples, Evaluated(who="student", step=3), "owner/name", "own/task/test", settings, 1.5)
    return [f for kind in ("lm-eval", "inspect") for f in abroad.write(kind, folder / kind, found, samples, problems)]  # type: ignore[arg-type]


def read(folder: Path) -> None:
    """With lm-eval's and inspect's own readers."""
    from inspect_ai.log import read_eval_log
    from lm_eval.utils import get_file_datetime, get_results_filenames, get_sample_results_filenames, make_table

    (log,) = (read_eval_log(file) for file in (folder / "inspect").glob("*.json"))
    assert (log.status, log.eval.task, len(log.samples or [])) == ("success", "own/task/test", 4)
    assert log.results and log.results.scores[0].metrics["accuracy"].value == 0.75
    first = (log.samples or [])[0]
    assert [m.role for m in first.messages] == ["user", "assistant", "user", "assistant"]
    assert (first.target, first.scores["esr"].value, first.output.completion[:5]) == ("2", 1, "It is")  # type: ignore[index]
    names = [str(file) for file in (folder / "lm-eval").rglob("*") if file.is_file()]
    (results,), (lines,) = get_results_filenames(names), get_sample_results_filenames(names)
    assert get_file_datetime(results).removesuffix(".json") == get_file_datetime(lines)
    table = make_table(json.loads(Path(results).read_text()))
    assert "exact_match " in table and "0.75" in table and "pass@2" in table
    print(table)
    rows = [json.loads(line) for line in Path(lines).read_text().strip().split("\n")]
    assert [(row["exact_match"], row["target"]) for row in rows] == [(0.5, "2"), (1.0, "4")]
    print("inspect and lm-eval read what was written.")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
