"""Mistakes that users make, and what `esr` answers: exit code 2, one sentence, nothing written over.

    python tests/cli/bad_inputs.py > docs/bad-inputs.md

`tests/cli/test_bad_inputs.py` runs every case and holds the document against the answers.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from tokenizers.normalizers import Lowercase

from tiny import LETTERS, make_tokenizer, save_model

CASES: list[tuple[str, list[str]]] = [
    ("A config file that does not exist", ["train", "nothing.yaml"]),
    ("A model's directory instead of a config file", ["train", "student"]),
    ("A file that is not YAML", ["train", "broken.yaml"]),
    ("A YAML file without sections", ["train", "list.yaml"]),
    ("A misspelt key", ["train", "c.yaml", "rollout.max_new_token=50"]),
    ("A key in the wrong section", ["train", "c.yaml", "optim.temperature=1"]),
    ("A value of the wrong type", ["train", "c.yaml", "optim.steps=many"]),
    ("A value out of range", ["train", "c.yaml", "rollout.top_p=1.5"]),
    ("A section that is written twice", ["train", "twice.yaml"]),
    ("A model without its key", ["config", "short.yaml"]),
    ("A number that is none", ["train", "c.yaml", "optim.lr=.inf"]),
    ("A control character in a prompt", ["train", "escaped.yaml"]),
    ("An unknown choice", ["train", "c.yaml", "loss.divergence=kl"]),
    ("A horizon that starts beyond its end", ["train", "c.yaml", "rollout.horizon={policy: linear, start: 500}"]),
    ("An override without a value", ["train", "c.yaml", "rollout.max_new_tokens"]),
    ("An N that is a number", ["train", "c.yaml", "--n", "50"]),
    ("A missing section", ["train", "no_teacher.yaml"]),
    ("A model directory that does not exist", ["train", "c.yaml", "teacher.model=./nowhere"]),
    ("A directory that holds no model", ["train", "c.yaml", "teacher.model=./empty"]),
    ("A hub model that cannot be reached", ["train", "c.yaml", "teacher.model=some-owner/some-model"]),
    ("A hub data set that cannot be reached", ["train", "c.yaml", "data.source=some-owner/some-data"]),
    ("An unknown lab model", ["train", "c.yaml", "teacher.model=lab:nobody"]),
    ("A file instead of a model directory", ["train", "c.yaml", "teacher.model=./prompts.jsonl"]),
    ("A teacher whose tokenizer changes text", ["train", "c.yaml", "teacher.model=./lower"]),
    ("A teacher that seldom starts a token where the student does", ["train", "c.yaml", "teacher.model=./words"]),
    ("A choice for two tokenizers where there is one vocabulary", ["train", "c.yaml", "loss.cross=uld"]),
    ("A device for a teacher that is not placed there", ["train", "c.yaml", "teacher.device=cuda:1"]),
    ("A teacher's prompt without the question", ["train", "c.yaml", "teacher.prompt=Answer: {answer}"]),
    (
        "A sharded teacher that is to be quantised",
        ["train", "c.yaml", "teacher={model: ./teacher, placement: sharded, quantization: 4bit}"],
    ),
    ("An adapter directory that is none", ["train", "c.yaml", "teacher.adapter=./empty"]),
    (
        "A variable that the chat template does not have",
        ["train", "c.yaml", "student.chat_template_kwargs={enable_thinking: false}"],
    ),
    (
        "An argument that is not the chat template's",
        ["train", "c.yaml", "student.chat_template_kwargs={truncation: true}"],
    ),
    ("A response that would not fit the context", ["train", "c.yaml", "rollout.max_new_tokens=5000"]),
    ("A data file that does not exist", ["train", "c.yaml", "data.source=missing.jsonl"]),
    ("A column that does not exist", ["train", "c.yaml", "data.question=prompt"]),
    ("An empty data file", ["train", "c.yaml", "data.source=empty.jsonl"]),
    ("A damaged line in a data file", ["train", "c.yaml", "data.source=torn.jsonl"]),
    ("A data file in which JSON ate the backslashes", ["train", "c.yaml", "data.source=eaten.jsonl"]),
    ("A grader that does not exist", ["train", "c.yaml", "eval={source: q.jsonl, grader: maths}"]),
    (
        "A grader file that does not exist",
        ["train", "c.yaml", "eval={source: q.jsonl, grader: 'python:mine.py:grade'}"],
    ),
    ("References that are none", ["train", "c.yaml", "eval={source: proofs.jsonl}"]),
    (
        "An evaluation file without the answers that are named",
        ["train", "c.yaml", "eval={source: unanswered.jsonl, answer: gold}"],
    ),
    ("Functions that the chat template has no place for", ["train", "c.yaml", "data.source=tools.jsonl"]),
    ("Conversations with pictures", ["train", "c.yaml", "data.source=pictures.jsonl"]),
    ("Evaluation problems that are all training prompts", ["train", "c.yaml", "eval={source: prompts.jsonl}"]),
    ("An unknown generated task", ["train", "c.yaml", "data.source=reasoning_gym:chain_sums"]),
    (
        "A wrong parameter of a generated task",
        ["train", "c.yaml", "data.source=reasoning_gym:chain_sum", "data.params={terms: 3}"],
    ),
    ("Prompts that are all too long", ["train", "c.yaml", "data.max_prompt_tokens=3"]),
    (
        "A server that does not answer",
        ["train", "c.yaml", "teacher.placement=server", "teacher.server=http://127.0.0.1:9"],
    ),
    ("A teacher on a server without an address", ["train", "c.yaml", "teacher.placement=server"]),
    ("An engine without an address", ["train", "c.yaml", "rollout.engine=vllm"]),
    ("An address that is none", ["train", "c.yaml", "rollout.engine=vllm", "rollout.server=localhost"]),
    ("A server that is not installed", ["serve", "teacher", "c.yaml", "--run", "--python", "./nowhere"]),
    ("A device that is not there", ["train", "c.yaml", "run.device=cuda:7"]),
    ("A device that holds no numbers", ["train", "c.yaml", "run.device=meta"]),
    ("A layer that the student does not have", ["train", "c.yaml", "student.lora.target_modules=[q_proj, q_porj]"]),
    ("A tracker that is not installed", ["train", "c.yaml", "run.trackers=[wandb]"]),
    ("A run directory that holds something else", ["train", "c.yaml", "run.dir=empty_not"]),
    ("A run directory that cannot be written", ["train", "c.yaml", "run.dir=prompts.jsonl/run"]),
    ("A flag that does not exist", ["train", "c.yaml", "--resum"]),
    ("A command that does not exist", ["trian", "c.yaml"]),
    ("An evaluation of something that is no run", ["eval", "empty"]),
    ("An evaluation without a task", ["eval", "c.yaml", "--who", "base"]),
    ("An evaluation of nobody", ["eval", "c.yaml", "eval.source=q.jsonl", "--who", "first"]),
    ("An evaluation of a run without checkpoints", ["eval", "c.yaml", "eval.source=q.jsonl"]),
    ("An export of something that is no run", ["export", "empty", "out"]),
    ("An analysis of something that is no run", ["analyze", "decay", "empty"]),
    ("An analysis of two models without a task", ["analyze", "selection", "./student", "./teacher"]),
    ("An analysis that grades, without an evaluation task", ["analyze", "decay", "c.yaml"]),
    ("An analysis of training, without training", ["analyze", "prefix-swap", "c.yaml"]),
    ("A study without arms", ["study", "no_arms.yaml"]),
    ("A study with a misspelt key in an arm", ["study", "typo.yaml"]),
    ("A report of something that is neither run nor study", ["report", "empty"]),
]


def build(home: Path) -> None:
    """The working directory in which the cases run."""
    save_model(home / "student", seed=1)
    save_model(home / "teacher", seed=2)
    save_model(home / "lower", seed=2, tokenizer=make_tokenizer(letters=LETTERS[::-1], normalizer=Lowercase()))
    save_model(home / "words", seed=2, tokenizer=make_tokenizer(letters=["what is ", " + 1?", *LETTERS[::-1]]))
    for name in ("empty", "empty_not"):
        (home / name).mkdir()
    (home / "empty_not" / "thesis.txt").write_text("precious")
    tree = {
        "student": {"model": "./student"}, "teacher": {"model": "./teacher"}, "data": {"source": "prompts.jsonl"},
        "optim": {"steps": 2}, "rollout": {"prompts_per_step": 2, "max_new_tokens": 8}, "run": {"device": "cpu"},
    }  # fmt: skip
    (home / "c.yaml").write_text(yaml.safe_dump(tree))
    (home / "no_teacher.yaml").write_text(yaml.safe_dump({k: v for k, v in tree.items() if k != "teacher"}))
    study = {"question": "?", "base": "c.yaml", "reference": "a", "arms": {"a": {"optim.step": 3}}}
    (home / "typo.yaml").write_text(yaml.safe_dump(study))
    (home / "no_arms.yaml").write_text(yaml.safe_dump({k: v for k, v in study.items() if k != "arms"}))
    (home / "broken.yaml").write_text("student: {model: x\nteacher: [")
    (home / "twice.yaml").write_text("optim: {steps: 3}\nstudent: {model: a/b}\noptim: {lr: 0.1}\n")
    (home / "short.yaml").write_text("student: lab:student-2\nteacher: {model: a/b}\ndata: {source: prompts.jsonl}\n")
    (home / "escaped.yaml").write_text('student: {model: a/b, system_prompt: "answer in \\boxed{}"}\n')
    (home / "list.yaml").write_text("- student\n- teacher\n")
    (home / "prompts.jsonl").write_text(
        "".join(f'{{"question": "what is {i} + 1?", "answer": "{i + 1}"}}\n' for i in range(4))
    )
    (home / "q.jsonl").write_text('{"question": "what is 7 * 6?", "answer": "42"}\n')
    (home / "unanswered.jsonl").write_text('{"question": "what is 7 * 6?"}\n')
    (home / "empty.jsonl").write_text("")
    (home / "tools.jsonl").write_text('{"question": "what is 1 + 1?", "tools": [{"name": "add"}]}\n')
    (home / "pictures.jsonl").write_text(
        '{"messages": [{"role": "user", "content": [{"type": "image", "image": "cat.png"}]}]}\n'
    )
    (home / "eaten.jsonl").write_text(r'{"question": "put it in \boxed{}"}')
    (home / "proofs.jsonl").write_text('{"question": "why?", "answer": "proof"}\n')
    (home / "torn.jsonl").write_text('{"question": "a"}\n{"question": "b\n')


def answer(arguments: list[str]) -> tuple[int, str]:
    """Exit code and stderr of one command line, in the current directory."""
    from esr.cli.main import run
    from esr.console import console

    caught = io.StringIO()
    with contextlib.redirect_stderr(caught):
        console.file = caught
        try:
            code = run(arguments)
        finally:
            console.file = None
    return code, re.sub(r"\(there are: [^)]*\)", "(there are: ...)", caught.getvalue())


def document() -> str:
    """All cases with their answers, as Markdown."""
    lines = [
        "# What `esr` says to twenty and more mistakes",
        "",
        "Written by `python tests/cli/bad_inputs.py > docs/bad-inputs.md`; `tests/cli/test_bad_inputs.py` holds it against the program.",
        "Every one ends with exit code 2 within seconds, before any weights are loaded, and writes over nothing.",
        "",
    ]
    for title, arguments in CASES:
        _, text = answer(arguments)
        last = [line for line in text.strip().splitlines() if line.strip()]
        lines += [
            f"**{title}**",
            "",
            "```",
            "$ esr " + " ".join(arguments),
            *(last if arguments[0] == "trian" or "--resum" in arguments else last[-1:]),
            "```",
            "",
        ]
    return "\n".join(lines).replace(os.getcwd(), "/home/you")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        here = os.getcwd()
        os.chdir(folder)
        text = document()
        os.chdir(here)
    print(text, end="")
