"""What one optimiser step costs: ESR, full on-policy distillation and, if it is installed, TRL's DistillationTrainer.

    python bench/step.py [CONFIG] [--steps 3] [--batch 8] [--n 50] [--full 300] [--trl-python PATH]

Every arm runs in a process of its own, one after the other, on the same pair, prompts, LoRA and batch; the first step is
left out. TRL runs without gradient checkpointing (as ours does) and with it (its default). Printed: seconds in each
phase, tokens a second, the peak memory of the whole process, and the ratios to ESR.
The last line is the same as JSON. Run it on an otherwise idle machine. `--no-stop` ignores terminators, so that every
response of an arm has its full length and all arms do the same work.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PHASES = ("sync", "generate", "score", "train")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="examples/smollm2/esr.yaml")
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--n", type=int, default=50, help="early-stop length of ESR and TRL")
    parser.add_argument("--full", type=int, default=300, help="length cap of full rollouts")
    parser.add_argument("--no-stop", action="store_true", help="ignore terminators")
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that can import trl")
    parser.add_argument("--arms", default="esr,full,trl,trl-checkpointing")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace, n: int) -> dict[str, Any]:
    """Time one arm of ours in this process."""
    from esr import train
    from esr.configfile import load
    from esr.distill import step
    from esr.meters import resident_peak
    from esr.models.lm import resolve_device
    from esr.prepare import prepare

    overrides = [
        f"rollout.max_new_tokens={n}", f"rollout.prompts_per_step={args.batch}", f"optim.steps={args.steps + 1}",
        "student.dtype=float32", "teacher.dtype=float32", "eval=null",
    ]  # fmt: skip
    plan = prepare(load(args.config, overrides))
    distiller = train.build(plan, resolve_device(plan.config.run.device))
    if args.no_stop:
        distiller.sampler = distiller.sampler.__class__(**{**distiller.sampler.__dict__, "terminators": ()})
    rows = [step(distiller, train.batch_of(plan, i), i, 5e-5).metrics for i in range(args.steps + 1)][1:]
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key in rows[-1]}
    return {
        "seconds": middle["time/step"],
        **{phase: middle[f"time/{phase}"] for phase in PHASES},
        "tokens": middle["tokens/generated"],
        "peak_gib": resident_peak() / 2**30 if distiller.student.device.type == "cpu" else middle["memory/peak_gib"],
    }


def prompts_file(args: argparse.Namespace, folder: str) -> Path:
    """The prompts of our arms, as chats, for TRL."""
    from esr import train
    from esr.configfile import load
    from esr.prepare import prepare

    plan = prepare(
        load(args.config, [f"rollout.prompts_per_step={args.batch}", f"optim.steps={args.steps + 1}", "eval=null"])
    )
    system = plan.config.student.system_prompt
    head = [{"role": "system", "content": system}] if system else []
    rows = [
        {"prompt": [*head, {"role": "user", "content": pair.problem.question}]}
        for i in range(args.steps + 1) for pair in train.batch_of(plan, i)
    ]  # fmt: skip
    file = Path(folder) / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run_trl(args: argparse.Namespace, checkpointing: bool) -> dict[str, Any] | None:
    """TRL at the same N, batch, LoRA and prompts; None if it is not installed."""
    from esr.configfile import load

    if subprocess.run([args.trl_python, "-c", "import trl"], capture_output=True).returncode:
        return None
    config = load(args.config)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            args.trl_python, str(HERE / "trl_step.py"),
            "--student", config.student.model, "--teacher", config.teacher.model,
            "--steps", str(args.steps + 1), "--batch", str(args.batch), "--new-tokens", str(args.n),
            "--temperature", str(config.rollout.temperature), "--top-p", str(config.rollout.top_p),
            "--prompts", str(prompts_file(args, folder)),
        ] + ["--no-stop"] * args.no_stop + ["--gradient-checkpointing"] * checkpointing  # fmt: skip
        return last_json(command)


def last_json(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    args = arguments()
    if args.arm:
        print(json.dumps(measure(args, args.n if args.arm == "esr" else args.full)))
        return
    results: dict[str, dict[str, Any]] = {}
    for arm in args.arms.split(","):
        print(f"measuring {arm} ...", file=sys.stderr, flush=True)
        found = (
            run_trl(args, "checkpointing" in arm)
            if arm.startswith("trl")
            else last_json([sys.executable, __file__, *sys.argv[1:], "--arm", arm])
        )
        if found:
            results[arm] = found
        else:
            print("trl is not installed for --trl-python; left out", file=sys.stderr)
    base = results.get("esr", next(iter(results.values())))
    print_table(results, base)
    settings = {key: getattr(args, key) for key in ("config", "batch", "n", "full", "steps", "no_stop")}
    print(json.dumps({**settings, "arms": results}))


def print_table(results: dict[str, dict[str, Any]], base: dict[str, Any]) -> None:
    """Seconds, speed, memory, and ratios to `base`."""
    heads = ("s/step", *PHASES, "tokens/s", "peak GiB", "time", "memory")
    print(f"{'arm':18}" + "".join(f"{head:>10}" for head in heads))
    for arm, r in results.items():
        cells = [f"{r['seconds']:.2f}", *(f"{r[p]:.2f}" if p in r else "-" for p in PHASES)]
        cells += [f"{r['tokens'] / r['seconds']:.1f}" if "tokens" in r else "-", f"{r['peak_gib']:.2f}"]
        cells += [f"{r['seconds'] / base['seconds']:.2f}x", f"{r['peak_gib'] / base['peak_gib']:.2f}x"]
        print(f"{arm:18}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
