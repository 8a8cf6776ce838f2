"""Evaluations for other harnesses: held against the fields that those declare. `make evals` reads them with the packages."""

import json
from pathlib import Path
from typing import Any

import pytest

from esr.cli.main import run as esr
from harnesses import write

SPEC = {
    "eval_id",
    "run_id",
    "created",
    "task",
    "task_id",
    "dataset",
    "model",
    "model_generate_config",
    "config",
    "packages",
    "metadata",
}
INSPECT: dict[str, tuple[set[str], set[str]]] = {
    # object: (fields that it must have, fields that it may have besides), of inspect-ai 0.3.285
    "": ({"version", "status", "eval"}, {"results", "stats", "samples", "plan", "error"}),
    "/eval": ({"created", "task", "dataset", "model", "config"}, SPEC),
    "/eval/dataset": (set(), {"name", "location", "samples", "sample_ids", "shuffled"}),
    "/results": ({"total_samples", "completed_samples", "scores"}, set()),
    "/results/scores/0": ({"name", "scorer"}, {"reducer", "metrics", "params"}),
    "/results/scores/0/metrics/accuracy": ({"name", "value"}, {"params", "metadata"}),
    "/stats": (set(), {"started_at", "completed_at", "model_usage"}),
    "/samples/0": ({"id", "epoch", "input", "target"}, {"messages", "output", "scores", "metadata"}),
    "/samples/0/output": ({"model", "choices"}, {"completion", "usage"}),
    "/samples/0/output/choices/0": ({"message", "stop_reason"}, set()),
    "/samples/0/scores/esr": ({"value"}, {"answer", "explanation"}),
}  # fmt: skip
RESULTS = {
    "results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "date", "task_hashes",
    "model_source", "model_name", "model_name_sanitized", "total_evaluation_time_seconds",
}  # fmt: skip
ROW = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash",
    "exact_match",
}  # fmt: skip


def at(tree: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write(tmp_path)


@pytest.mark.parametrize("pointer", INSPECT)
def test_a_log_has_the_fields_of_inspect(files: list[Path], pointer: str) -> None:
    found = set(at(json.loads(files[2].read_text()), pointer))
    must, may = INSPECT[pointer]
    assert must <= found <= must | may


def test_a_log_says_what_was_measured(files: list[Path]) -> None:
    log = json.loads(files[2].read_text())
    assert [(s["id"], s["epoch"], s["scores"].get("esr", {}).get("value")) for s in log["samples"]] == [
        ("a", 1, 1.0), ("a", 2, 0.0), ("b", 1, 1.0), ("b", 2, None),
    ]  # fmt: skip
    assert [m["role"] for m in log["samples"][0]["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [s["output"]["choices"][0]["stop_reason"] for s in log["samples"][:2]] == ["stop", "max_tokens"]
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 0.75
    assert files[2].name.endswith(".json") and "own-task-test" in files[2].name


def test_results_and_samples_are_those_of_lm_eval(files: list[Path]) -> None:
    results = json.loads(files[0].read_text())
    assert set(results) == RESULTS
    measured = results["results"]["own-task-test"]
    assert (measured["exact_match,none"], measured["pass@2,none"]) == (0.75, 1.0)
    assert all(f"{name}_stderr,none" in measured for name in ("exact_match", "pass@1", "finished"))
    rows = [json.loads(line) for line in files[1].read_text().strip().split("\n")]
    assert all(set(row) == ROW for row in rows)
    assert rows[0]["doc"]["question"].startswith("user: Hi\n\nassistant: Yes?\n\nuser: 1 + 1?")
    assert len(rows[0]["resps"][0]) == 2
    assert rows[0]["arguments"]["gen_args_0"]["arg_1"]["until"] == ["Q:"]
    names = [f.name for f in files[:2]]
    assert names[0].removeprefix("results_").removesuffix(".json") in names[1]


def test_from_the_command_line(tmp_path: Path, pair_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(
        f"student: {{model: {pair_dir}/student}}\nteacher: {{model: {pair_dir}/teacher}}\n"
        f"data: {{source: {pair_dir}/prompts.jsonl, limit: 4}}\n"
        f"eval: {{source: {pair_dir}/prompts.jsonl, samples: 2, max_new_tokens: 4, prompt: 'Q {{question}}'}}\n"
    )
    run = str(tmp_path / "run")
    assert esr(["eval", str(tmp_path / "c.yaml"), f"run.dir={run}", "--who", "base"]) == 0
    capsys.readouterr()
    assert esr(["export", run, str(tmp_path / "out"), "--evals", "lm-eval", "--json"]) == 0
    results, lines = json.loads(capsys.readouterr().out)["files"]
    assert json.loads(Path(lines).read_text().splitlines()[0])["doc"]["question"].startswith("Q what is")
    assert "exact_match,none" in next(iter(json.loads(Path(results).read_text())["results"].values()))
    assert esr(["export", run, str(tmp_path / "out"), "--evals", "openai"]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("openai", "lm-eval", "inspect"))
