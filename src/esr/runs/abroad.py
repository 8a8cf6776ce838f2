"""A run's evaluation in the files that lm-eval and inspect write, for the tools that read those. No torch here.

Formats as of lm-eval 0.4.13 (`loggers/evaluation_tracker.py`) and inspect-ai 0.3.285 (`log/_log.py`, version 2).
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from esr import __version__
from esr.records.base import Estimate
from esr.records.evaluation import Evaluation, Sample
from esr.records.problem import Problem
from esr.runs.files import dumps, write_text

Abroad = Literal["lm-eval", "inspect"]
METRICS = {
    "exact_match": "avg",
    "exact_match_first": "avg_first",
    "exact_match_any": "avg_any",
    "finished": "finish_rate",
}
"""Names of our accuracies there; all are shares."""


def write(
    kind: Abroad, folder: Path, found: Evaluation, samples: Sequence[Sample], problems: Mapping[str, Problem]
) -> list[Path]:
    """Write an evaluation into `folder`, and return the files. `problems` gives prompts and references by id, as far as known."""
    at = datetime.now(UTC)
    if kind == "lm-eval":
        return _lm_eval(folder, found, samples, problems, at)
    folder.mkdir(parents=True, exist_ok=True)
    file = (
        folder / f"{at:%Y-%m-%dT%H-%M-%S+00-00}_{plain_name(found.task)}_{_digest(found.model + found.name)[:22]}.json"
    )
    write_text(file, dumps(inspect_log(found, samples, problems, at), indent=1))
    return [file]


def plain_name(name: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "task"


def _by_problem(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        found[s.problem].append(s)
    return dict(found)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _asked(problem: Problem | None) -> tuple[str, str]:
    """What was asked, and the reference, as text."""
    return (problem.conversation, problem.answer or "") if problem else ("", "")


def _error(e: Estimate) -> float:
    """A standard error from a 95% interval."""
    return (e.high - e.low) / (2 * 1.959963984540054)


# lm-eval


def _lm_eval(
    folder: Path, found: Evaluation, samples: Sequence[Sample], problems: Mapping[str, Problem], at: datetime
) -> list[Path]:
    stamp, task = at.strftime("%Y-%m-%dT%H-%M-%S.%f"), plain_name(found.task)
    home = folder / found.model.replace("/", "__").strip("._") / found.name
    rows = lm_eval_samples(found, samples, problems)
    home.mkdir(parents=True, exist_ok=True)
    results, lines = home / f"results_{stamp}.json", home / f"samples_{task}_{stamp}.jsonl"
    write_text(results, dumps(lm_eval_results(found, rows, at), indent=2))
    write_text(lines, "".join(dumps(row) + "\n" for row in rows))
    return [results, lines]


def lm_eval_results(found: Evaluation, rows: Sequence[Mapping[str, Any]], at: datetime) -> dict[str, Any]:
    """The aggregated results, as `results_*.json` has them."""
    task = plain_name(found.task)
    measured: dict[str, Any] = {"alias": task}
    for name, field in METRICS.items():
        if (estimate := getattr(found, field)) is not None:
            measured |= {f"{name},none": estimate.value, f"{name}_stderr,none": _error(estimate)}
    for k, estimate in found.pass_at.items():
        measured |= {f"pass@{k},none": estimate.value, f"pass@{k}_stderr,none": _error(estimate)}
    names = [key.partition(",")[0] for key in measured if key != "alias" and "_stderr" not in key]
    hashes = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    return {
        "results": {task: measured},
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "output_type": "generate_until", "repeats": found.samples, "metadata": found.settings}},
        "versions": {task: f"esr-{__version__}"},
        "n-shot": {task: 0},
        "higher_is_better": {task: dict.fromkeys(names, True)},
        "n-samples": {task: {"original": found.problems, "effective": found.problems}},
        "config": {"model": "esr", "model_args": {"pretrained": found.model, "evaluated": found.name}, "gen_kwargs": _sampling(found)},
        "date": at.timestamp(),
        "task_hashes": {task: _digest(hashes)},
        "model_source": "esr",
        "model_name": found.model,
        "model_name_sanitized": found.model.replace("/", "__").strip("._"),
        "total_evaluation_time_seconds": str(found.seconds),
    }  # fmt: skip


def lm_eval_samples(
    found: Evaluation, samples: Sequence[Sample], problems: Mapping[str, Problem]
) -> list[dict[str, Any]]:
    """One row a problem, as `samples_*.jsonl` has them; `resps` holds all of its responses."""
    rows = []
    for number, (name, group) in enumerate(_by_problem(samples).items()):
        prompt, target = _asked(problems.get(name))
        doc = {"id": name, "question": prompt, "answer": target}
        judged = [s.grade for s in group if s.grade.last is not None]
        right = sum(g.points for g in judged) / len(judged) if judged else None
        rows.append(
            {
                "doc_id": number,
                "doc": doc,
                "target": target,
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": _sampling(found)}},
                "resps": [[s.text for s in group]],
                "filtered_resps": [s.grade.answer or "" for s in group],
                "filter": "none",
                "metrics": ["exact_match"],
                "doc_hash": _digest(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _digest(prompt),
                "target_hash": _digest(target),
                "exact_match": right,
            }
        )
    return rows


def _sampling(found: Evaluation) -> dict[str, Any]:
    settings = found.settings
    temperature = settings.get("temperature", 0)
    return {
        "do_sample": bool(temperature),
        "temperature": temperature,
        "top_p": settings.get("top_p", 1.0),
        "max_gen_toks": settings.get("max_new_tokens"),
        "until": settings.get("stop") or [],
    }


# inspect


def inspect_log(
    found: Evaluation, samples: Sequence[Sample], problems: Mapping[str, Problem], at: datetime
) -> dict[str, Any]:
    """An `EvalLog` as JSON; a response is an epoch of its sample."""
    settings, when = found.settings, at.isoformat(timespec="seconds")
    groups = _by_problem(samples)
    metrics = {"accuracy": found.avg, "accuracy_first": found.avg_first, "finished": found.finish_rate}
    metrics |= {f"pass_at_{k}": e for k, e in found.pass_at.items()}
    values = {name: {"name": name, "value": e.value} for name, e in metrics.items() if e is not None}
    if found.avg is not None:
        values["stderr"] = {"name": "stderr", "value": _error(found.avg)}
    done = {"total_samples": len(samples), "completed_samples": len(samples)}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _digest(found.model + found.name)[:22],
            "run_id": _digest(found.model + found.name + when)[:22],
            "created": when,
            "task": found.task,
            "task_id": plain_name(found.task),
            "dataset": {"name": found.task, "samples": len(groups), "sample_ids": list(groups), "shuffled": False},
            "model": f"esr/{found.model}",
            "model_generate_config": {
                "temperature": settings.get("temperature"),
                "top_p": settings.get("top_p"),
                "max_tokens": settings.get("max_new_tokens"),
            },
            "config": {"epochs": found.samples},
            "packages": {"esr": __version__},
            "metadata": {"evaluated": found.name, "settings": settings},
        },
        "results": {**done, "scores": [{"name": "esr", "scorer": "esr", "metrics": values}]},
        "stats": {"started_at": when, "completed_at": when},
        "samples": [_inspect_sample(found, s, problems.get(s.problem)) for s in samples],
    }


def _inspect_sample(found: Evaluation, s: Sample, problem: Problem | None) -> dict[str, Any]:
    prompt, target = _asked(problem)
    turns = [{"role": m.role, "content": m.content} for m in problem.context] if problem else []
    turns.append({"role": "user", "content": problem.question if problem else prompt})
    reply = {"role": "assistant", "content": s.text, "source": "generate"}
    stop = "stop" if s.finished else "max_tokens"
    score = {"value": s.grade.points, "answer": s.grade.answer, "explanation": s.grade.note}
    return {
        "id": s.problem,
        "epoch": s.sample + 1,
        "input": turns,
        "target": target,
        "messages": [*turns, reply],
        "output": {
            "model": f"esr/{found.model}",
            "choices": [{"message": reply, "stop_reason": stop}],
            "completion": s.text,
            "usage": {"output_tokens": s.tokens, "input_tokens": 0, "total_tokens": s.tokens},
        },
        "scores": {} if s.grade.last is None else {"esr": score},
        "metadata": {"repetitive": s.repetitive, "closeness": s.closeness},
    }
