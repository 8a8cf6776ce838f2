"""The model card as the hub reads it."""

import pytest
from huggingface_hub import ModelCard

from esr.config.configfile import validate
from esr.export.card import card
from esr.records.base import Estimate
from esr.records.evaluation import Evaluation


def config(student: str, **sections):
    sides = {"student": {"model": student, "system_prompt": "a | b\n---"}, "teacher": {"model": "Qwen/Qwen3-4B"}}
    return validate({**sides, "data": {"source": "gsm8k"}, **sections}, "test")


def evaluation(name: str, value: float) -> Evaluation:
    share = Estimate(value=value, low=value - 0.05, high=value + 0.05, n=100)
    rates = dict.fromkeys(
        ("avg", "maj", "pass_at_k", "avg_first", "avg_any", "finish_rate", "avg_given_finish", "repetition_rate"), share
    )
    return Evaluation(
        name=name, model="m", task="math500", settings={}, problems=100, samples=4, tokens={"p50": 80.0}, grader_failures=0,
        seconds=1.0, **rates,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("student", "expected"),
    [("Qwen/Qwen3-1.7B", "Qwen/Qwen3-1.7B"), ("lab:student-1", None), ("{home}", None), ("./models/mine", None)],
)
def test_only_a_model_of_the_hub_is_a_base_model(student, expected, tmp_path):
    text = card(config(student.format(home=tmp_path)), [], "step-000010", True, "mine")
    assert ModelCard(text).data.base_model == expected


def test_the_exported_step_is_the_one_that_the_metadata_measures():
    found = [evaluation(name, value) for name, value in (("step-000000", 0.2), ("step-000010", 0.6), ("teacher", 0.9))]
    text = card(config("Qwen/Qwen3-1.7B"), found, "step-000010", False, "mine")
    read = ModelCard(text).data
    assert [(r.dataset_name, r.metric_name, r.metric_value) for r in read.eval_results] == [("math500", "avg@4", 60.0)]
    assert (read.model_name, read.library_name, read.pipeline_tag) == ("mine", "transformers", "text-generation")
    assert "| teacher | math500 | 100 x 4 | 90.0% [85.0, 95.0] |" in text
    assert "The exported weights are those of `step-000010`." in text


def test_a_system_prompt_stays_in_its_cell():
    text = card(config("Qwen/Qwen3-1.7B"), [], "step-000010", False, "mine")
    assert r'| system prompt | "a \| b\n---" |' in text
    assert "This run was not evaluated" in text
