"""Write docs/results.md from the records in results/. No number in it is typed by hand.

python tools/write_results.py > docs/results.md
"""

import json
from pathlib import Path
from typing import Any

from esr.records.base import Estimate, as_text
from esr.records.evaluation import Evaluation, grouped

RESULTS = Path(__file__).parent.parent / "results"


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def pct(e: dict[str, Any] | None, sign: bool = False) -> str:
    """An estimate of a record, in percent."""
    return as_text(Estimate.model_validate(e) if e else None, sign=sign)


def nats(e: dict[str, Any] | None, sign: bool = False) -> str:
    return as_text(Estimate.model_validate(e) if e else None, "nats", sign)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def called(e: Evaluation) -> str:
    return "teacher" if e.step is None else f"student after {e.step} steps" if e.step else "student before"


def accuracy(evaluations: list[Evaluation], changes: dict[str, dict[str, Any]]) -> list[str]:
    """One task's table."""
    first = evaluations[0]
    how = "greedy" if first.settings["temperature"] == 0 else f"temperature {first.settings['temperature']:g}"
    rows = [
        [
            called(e), as_text(e.avg), pct(changes.get(e.name), sign=True), as_text(e.avg_first), as_text(e.avg_any),
            as_text(e.finish_rate), as_text(e.repetition_rate), f"{e.tokens['p50']:.0f}",
        ]
        for e in evaluations
    ]  # fmt: skip
    title = f"`{first.task}`, {first.problems} problems, {first.samples} responses each, {how}:"
    head = [
        "model",
        "accuracy (last answer)",
        "change",
        "first answer",
        "any answer",
        "finished",
        "repetitive",
        "median tokens",
    ]
    return [title, "", *table(head, rows)]


ARITHMETIC = (
    "esr eval runs/smollm2 eval.source=reasoning_gym:basic_arithmetic eval.temperature=0 eval.samples=1 eval.size=400 "
    "eval.limit=200 eval.max_new_tokens=100 'eval.params={min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1, "
    'operators: ["+", "*"], allow_parentheses: false, allow_negation: false}\''
)


def smollm2() -> list[str]:
    """The prune-and-distil example."""
    run, profile = read("smollm2/esr.json"), read("smollm2/profile.json")
    last = run["last"]
    lines = [
        "## SmolLM2-135M without two of its layers, distilled with ESR", "",
        "```bash", "python examples/smollm2/make_models.py", "esr train examples/smollm2/esr.yaml",
        f"esr analyze profile runs/smollm2 --problems {profile['problems']} --json > results/smollm2/profile.json",
        *(f"{ARITHMETIC} --who {who}" for who in ("base", "last", "teacher")),
        "esr train examples/smollm2/esr.yaml --json > results/smollm2/esr.json    # complete: prints what there is", "```", "",
        f"{run['steps']} steps of 8 responses to GSM-Symbolic prompts, N = {profile['trained_window']}, one training seed, on a CPU. "
        "Accuracy is measured on single operations with one-digit numbers, a task that the prompts do not train. "
        "Percent, 95% interval clustered by problem; the change is paired by problem.", "",
    ]  # fmt: skip
    evaluations = [Evaluation.model_validate(e) for e in run["evaluations"]]
    for group in grouped(evaluations, lambda e: e):
        lines += accuracy(group, {d["name"]: d["avg"] for d in run["differences"]})
    lines += [
        f"Reverse KL to the teacher in nats, on {profile['problems']} held-out prompts of `{profile['prompts']}` (95% interval by "
        "response). *Common*: the untrained student's responses, the same for both; *own*: the trained student's.", "",
    ]  # fmt: skip
    curves = {(c["model"], c["trajectories"]): c["bins"] for c in profile["curves"]}
    common, after, own = curves["before", "common"], curves["after", "common"], curves["after", "own"]
    rows = []
    for i, b in enumerate(common):
        end = f"{b['end'] - 1}" if b["end"] else ""
        rows.append([
            f"{b['start']}-{end}", nats(b["reverse_kl"]), nats(after[i]["reverse_kl"]), nats(own[i]["reverse_kl"]) if i < len(own) else "-",
            f"{b['tokens']:,} / {b['responses']}",
        ])  # fmt: skip
    lines += table(["positions", "before, common", "after, common", "after, own", "tokens / responses (common)"], rows)
    lines += [
        f"Paired change on the common responses: {nats(profile['inside'], sign=True)} in the first {profile['trained_window']} positions, "
        f"{nats(profile['beyond'], sign=True)} beyond them, where nothing was trained.", "",
        f"Training loss at the last step {last['loss']:.3f}; peak memory {last['memory/peak_gib']:.1f} GiB.", "",
    ]  # fmt: skip
    return lines


UNTRAINED = {
    "humaneval": "eval.source=humaneval eval.max_new_tokens=512",
    "bfcl": "eval.source=bfcl:simple eval.tools=prompt eval.limit=200 eval.max_new_tokens=96",
}
"""What the plain model was measured on, and how: records `results/smollm2/NAME.json`."""


def untrained() -> list[str]:
    """Programs and function calls, before any training."""
    found = {name: Evaluation.model_validate(read(f"smollm2/{name}.json")["evaluation"]) for name in UNTRAINED}
    how = "eval.temperature=0 eval.samples=1 eval.limit=null 'eval.params={}'"
    lines = [
        "## SmolLM2-135M-Instruct on programs and function calls, before any training", "",
        "```bash",
        *(
            f"esr eval examples/smollm2/esr.yaml {how} {keys} --who teacher --json > results/smollm2/{name}.json"
            for name, keys in UNTRAINED.items()
        ),
        "```", "",
        "Greedy, one response to each problem. Percent, 95% interval. Programs run in the sandbox and are judged by HumanEval's tests; "
        "calls are judged by the leaderboard's rule.", "",
    ]  # fmt: skip
    rows = [
        [
            f"`{e.task}`", str(e.problems), as_text(e.avg), as_text(e.finish_rate), as_text(e.avg_given_finish),
            as_text(e.repetition_rate), f"{e.tokens['p50']:.0f}", str(e.grader_failures),
        ]
        for e in found.values()
    ]  # fmt: skip
    head = [
        "task",
        "problems",
        "accuracy",
        "finished",
        "accuracy if finished",
        "repetitive",
        "median tokens",
        "grader failures",
    ]
    return [*lines, *table(head, rows)]


def reading() -> list[str]:
    """What a large data file costs."""
    rows = [
        [f"{r['rows']:,}", f"{r['bytes'] / 2**20:,.0f}", r["start"], f"{r['seconds']:.1f}", f"{r['peak_gib']:.2f}"]
        for r in read("bench/data.json")
    ]
    return [
        "## What a large data file costs", "", "```bash", "python bench/data.py --out results/bench/data.json", "```", "",
        "JSONL; from the start of `esr train` until its first step is recorded, and again after a kill until the next one. The models are "
        "the lab's, so that the difference to a thousand rows is what reading costs. One CPU core, shared with other work.", "",
        *table(["rows", "MiB", "start", "seconds", "peak GiB"], rows),
    ]  # fmt: skip


def machine(record: dict[str, Any]) -> str:
    """What a bench ran on."""
    found = record["machine"]
    return f"{found['cores']} CPU cores ({found['kernels']}, load before {found['load']:.1f})"


def bench() -> list[str]:
    """What a step costs."""
    record = read("bench/step.json")
    names = {
        "esr": f"ESR, N = {record['n']}",
        "trl": f"TRL 1.16, N = {record['n']}",
        "esr-checkpointing": f"ESR, N = {record['n']}, checkpointing",
        "trl-checkpointing": f"TRL 1.16, N = {record['n']}, checkpointing (its default)",
        "esr-configured": f"ESR, N = {record['n']}, the config's micro-batches",
        "full-configured": f"full OPD, cap {record['full']}, the config's micro-batches",
    }
    phases, rows = ("sync", "generate", "score", "train"), []
    for dtype, found in record["types"].items():
        for arm in (name for name in names if name in found["arms"]):
            r, base = found["arms"][arm], found["arms"][arm.replace("trl", "esr").replace("full", "esr")]
            ratios = [f"{r[key] / base[key]:.2f}" if r is not base else "-" for key in ("seconds", "peak_gib")]
            cells = [f"{r[p]:.2f}" if p in r else "-" for p in phases]
            rows.append([dtype, names[arm], f"{r['seconds']:.2f}", *cells, f"{r['peak_gib']:.2f}", *ratios])
    kinds = record["types"].values()
    each = {"types": record["types"], "steps": [k["steps"] for k in kinds], "batch": [k["batch"] for k in kinds]}
    given = " ".join(f"--{key} {' '.join(map(str, values))}" for key, values in each.items())
    steps = lambda count: "a single step" if count == 1 else f"the median of {count - 1} steps after one"  # noqa: E731
    how = "; ".join(
        f"{dtype}: {f['batch']} responses a step, {steps(f['steps'])}" for dtype, f in record["types"].items()
    )
    return [
        "## What a step costs", "", "```bash", f"python bench/step.py {given} --trl-python .venv-trl/bin/python", "```", "",
        f"SmolLM2 pair, LoRA r 32 on all linear layers; {how}. On {machine(record)}; one process of one "
        "thread for each arm, one after the other. Seconds of the processor, GiB of the whole process. Each side samples its own "
        "responses, whose lengths differ. Ratios are to ESR at like settings: gradient checkpointing or not, the whole batch at once.", "",
        *table(["type", "arm", "s/step", *phases, "peak GiB", "time ratio", "memory ratio"], rows),
    ]  # fmt: skip


if __name__ == "__main__":
    from bench_results import measured
    from family_results import costs, families
    from lab_results import lab

    intro = [
        "# Results",
        "",
        "Written by `python tools/write_results.py > docs/results.md` from the records in `results/`.",
        "",
    ]
    print(
        "\n".join(
            [*intro, *smollm2(), *untrained(), *families(), *lab(), *bench(), *measured(), *costs(), *reading()]
        ).rstrip()
    )
