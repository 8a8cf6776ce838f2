"""Evaluation prompts apart from training's, and what the protocols of others fill in."""

import pytest

from esr.config import EvalConfig
from esr.config.configfile import validate
from esr.config.protocols import PROTOCOLS
from esr.errors import UserError
from esr.evaluation.graded import cut
from esr.grading import grade
from esr.records.problem import Message, Problem
from esr.tasks.problems import posed

SECTIONS = {"student": {"model": "a/b"}, "teacher": {"model": "c/d"}, "data": {"source": "gsm8k"}}


def evaluation(**keys) -> EvalConfig:
    found = validate({**SECTIONS, "eval": keys}, "test").eval
    assert found
    return found


def test_an_evaluation_has_its_own_prompt_and_system_text():
    system = Message(role="system", content="row's own")
    problem = Problem(id="p", question="1 + {x}?", context=(system, Message(role="user", content="hi")))
    asked = posed(problem, EvalConfig(source="q", prompt="Solve: {question}\n", system_prompt="Think."))
    assert (asked.question, asked.id) == ("Solve: 1 + {x}?\n", "p")
    assert [m.content for m in asked.context] == ["Think.", "hi"]
    assert posed(problem, EvalConfig(source="q")) == problem
    assert posed(problem, EvalConfig(source="q", system_prompt="")).context[0].content == ""
    with pytest.raises(UserError, match="must hold {question}"):
        evaluation(source="q", prompt="Solve:")


@pytest.mark.parametrize(("protocol", "source"), sorted(PROTOCOLS))
def test_a_protocol_fills_in_what_is_not_given(protocol, source):
    filled = evaluation(source=source, protocol=protocol)
    assert all(getattr(filled, key) == value for key, value in PROTOCOLS[protocol, source].items())
    own = evaluation(source=source, protocol=protocol, max_new_tokens=7, samples=3)
    assert (own.max_new_tokens, own.samples, own.prompt) == (7, 3, filled.prompt)
    again = EvalConfig.model_validate(filled.model_dump())
    assert again == filled


def test_a_protocol_is_refused_for_other_tasks_and_by_another_name():
    with pytest.raises(
        UserError, match="protocol lm-eval is about aime24, aime25, gsm8k, math500, not about humaneval"
    ):
        evaluation(source="humaneval", protocol="lm-eval")
    with pytest.raises(UserError, match="protocol"):
        evaluation(source="math500", protocol="lmeval")


def test_prompts_as_the_protocols_write_them():
    """Held against lm-eval 0.4.13, lighteval 0.13 and the authors' evaluation by reading them."""
    problem = Problem(id="p", question="What is 1 + 1?")
    asked = {(p, s): posed(problem, evaluation(source=s, protocol=p)).question for p, s in PROTOCOLS}
    assert asked["lm-eval", "gsm8k"] == "Q: What is 1 + 1?\nA: Let's think step by step."
    assert asked["lm-eval", "math500"] == "Problem:\nWhat is 1 + 1?\n\nSolution:"
    assert asked["lm-eval", "aime24"] == asked["lighteval", "gsm8k"] == "Question: What is 1 + 1?\nAnswer:"
    assert asked["article", "math500"].endswith("step by step and output the final answer within \\boxed{}.")
    assert asked["lighteval", "aime25"].startswith(
        "Solve the following math problem efficiently and clearly.  The last line"
    )
    assert asked["lighteval", "math500"].endswith("before answering.\n\nWhat is 1 + 1?")


@pytest.mark.parametrize(
    ("text", "right"),
    [("So 3, no: 42.", True), (r"\boxed{42} of 50", False), ("$1,042", False), ("The answer is 42.\n\nQ: 7 + 1?", True), ("", False)],
)  # fmt: skip
def test_the_last_number_before_the_next_question_counts(text, right):
    problem = Problem(id="p", question="?", answer="42", grader="text:last")
    assert grade([problem], [cut(text, ["Q:"])])[0].last is right


def test_a_response_is_cut_at_the_first_of_several_texts():
    assert cut("a Problem: b Q: c", ["Q:", "Problem:"]) == "a "
    assert cut("a", []) == "a"
