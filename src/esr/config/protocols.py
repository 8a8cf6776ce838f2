"""How others evaluate MATH-500, GSM8K and AIME: prompts, sampling and extraction as published, for numbers beside theirs.

* `article`: the evaluation code of the article's authors, which prompts otherwise than their training does.
* `lighteval`: lighteval 0.13 (`lighteval/tasks/tasks/{math_500,gsm8k,aime}.py`), with its default of greedy decoding.
* `lm-eval`: lm-eval 0.4.13 (`lm_eval/tasks/{minerva_math,gsm8k,aime}`), with `--apply_chat_template --num_fewshot 0`: the tasks
  `minerva_math500`, `gsm8k_cot_zeroshot` (its `flexible-extract`), `aime24` and `aime25`, and 256 tokens where a task names no
  number.

Answers are compared by our graders, which accept what theirs accept and further spellings of the same value.
"""

from typing import Any, Literal

Protocol = Literal["article", "lighteval", "lm-eval"]

GREEDY = {"samples": 1, "temperature": 0.0, "top_p": 1.0}
ARTICLE = {
    "prompt": "{question} Let's think step by step and output the final answer within \\boxed{}.",
    "system_prompt": "",
    "samples": 4,
    "temperature": 0.7,
    "top_p": 1.0,
    "max_new_tokens": 2048,
    "grader": "answers",
}
LIGHTEVAL_MATH = {
    **GREEDY,
    "prompt": "Solve the following problem. The final line of your response MUST be of the following format:\n"
    '"ANSWER: $ANSWER" (without quotes) where $ANSWER is the final answer. Think step by step before answering.\n\n{question}',
    "max_new_tokens": 32768,
    "grader": "answers",
}
LIGHTEVAL_GSM8K = {
    **GREEDY,
    "prompt": "Question: {question}\nAnswer:",
    "max_new_tokens": 256,
    "stop": ["Question:"],
    "grader": "answers",
}
LIGHTEVAL_AIME = {
    **GREEDY,
    "prompt": "Solve the following math problem efficiently and clearly.  The last line of your response should be of the following "
    "format: 'Therefore, the final answer is: $\\boxed{ANSWER}$. I hope it is correct' (without quotes) where ANSWER is just the "
    "final number or expression that solves the problem. Think step by step before answering.\n\n{question}",
    "max_new_tokens": 32768,
    "grader": "answers",
}
LM_EVAL_MATH = {
    **GREEDY,
    "prompt": "Problem:\n{question}\n\nSolution:",
    "max_new_tokens": 256,
    "stop": ["Problem:"],
    "grader": "answers",
}
LM_EVAL_GSM8K = {
    **GREEDY,
    "prompt": "Q: {question}\nA: Let's think step by step.",
    "max_new_tokens": 256,
    "stop": ["Q:"],
    "grader": "text:last",
}
LM_EVAL_AIME = {
    **GREEDY,
    "prompt": "Question: {question}\nAnswer:",
    "max_new_tokens": 32768,
    "stop": ["Question:"],
    "grader": "answers",
}
PROTOCOLS: dict[tuple[str, str], dict[str, Any]] = {
    **{("article", task): ARTICLE for task in ("math500", "gsm8k", "aime24", "aime25")},
    ("lighteval", "math500"): LIGHTEVAL_MATH,
    ("lighteval", "gsm8k"): LIGHTEVAL_GSM8K,
    ("lighteval", "aime24"): LIGHTEVAL_AIME,
    ("lighteval", "aime25"): LIGHTEVAL_AIME,
    ("lm-eval", "math500"): LM_EVAL_MATH,
    ("lm-eval", "gsm8k"): LM_EVAL_GSM8K,
    ("lm-eval", "aime24"): LM_EVAL_AIME,
    ("lm-eval", "aime25"): LM_EVAL_AIME,
}
"""Values of `eval` keys, by protocol and source."""
