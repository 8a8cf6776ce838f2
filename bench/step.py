"""What one optimiser step costs: ESR, full on-policy distillation and, if it is installed, TRL's DistillationTrainer.

    python bench/step.py [CONFIG] [--types float32 bfloat16] [--steps 3 1] [--batch 8 2] [--n 50] [--trl-python PATH]
        [--out FILE]

Every arm runs in a process of its own, one after the other, on the same pair, prompts, LoRA and batch; of several steps the first is
left out. ESR and TRL (`trl`) take the whole batch at once, without gradient checkpointing and with it (TRL's default). In
float32 also: ESR and full rollouts in the micro-batches of the config. On a CPU an arm has one thread, and seconds are those of the
processor, so that other work on the machine does not count. Printed: seconds in each phase, the peak memory of the whole
process, and for TRL the ratios to ESR at like settings. `--no-stop` ignores terminators, so that every response of an arm
has its full length and all arms do the same work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PHASES = ("sync", "generate", "score", "train")
ALIKE = ("esr", "esr-checkpointing", "trl", "trl-checkpointing")
CONFIGURED = ("esr-configured", "full-configured")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="examples/smollm2/esr.yaml")
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--steps", nargs="+", type=int, default=[3, 1], help="steps of each arm, for each type")
    parser.add_argument("--batch", nargs="+", type=int, default=[8, 2], help="responses of a step, for each type")
    parser.add_argument("--n", type=int, default=50, help="early-stop length of ESR and TRL")
    parser.add_argument("--full", type=int, default=300, help="length cap of full rollouts")
    parser.add_argument("--no-stop", action="store_true", help="ignore terminators")
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that can import trl")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace, arm: str, dtype: str, steps: int, batch: int) -> dict[str, Any]:
    """Time one arm of ours in this process."""
    from clock import Seconds

    from esr import distill, train
    from esr.assemble import build
    from esr.config.configfile import load
    from esr.meters import resident_peak
    from esr.models.lm import resolve_device
    from esr.prepare import prepare

    distill.Phases = Seconds  # type: ignore[misc]
    overrides = [
        f"rollout.max_new_tokens={args.full if arm.startswith('full') else args.n}", f"optim.steps={steps}", "eval=null",
        f"rollout.prompts_per_step={batch}", f"student.dtype={dtype}", f"teacher.dtype={dtype}",
        f"optim.gradient_checkpointing={str('checkpointing' in arm).lower()}",
    ] + ["optim.micro_batch_tokens=1000000"] * (arm in ALIKE)  # fmt: skip
    plan = prepare(load(args.config, overrides))
    distiller = build(plan, resolve_device(plan.config.run.device))
    if args.no_stop:
        distiller.sampler = distiller.sampler.__class__(**{**distiller.sampler.__dict__, "terminators": ()})
    loading = resident_peak() / 2**30 if distiller.student.device.type == "cpu" else 0.0
    rows = [distill.step(distiller, train.batch_of(plan, i), i, 5e-5).metrics for i in range(steps)]
    timed = rows[1:] or rows
    return {
        "seconds": statistics.median(row["time/step"] for row in timed),
        **{phase: statistics.median(row[f"time/{phase}"] for row in timed) for phase in PHASES},
        "tokens": statistics.median(row["tokens/generated"] for row in timed),
        "peak_gib": max(loading, *(row["memory/peak_gib"] for row in rows)),
    }


def prompts_file(args: argparse.Namespace, steps: int, batch: int, folder: str) -> Path:
    """The prompts of our arms, as chats, for TRL."""
    from esr import train
    from esr.config.configfile import load
    from esr.prepare import prepare

    plan = prepare(load(args.config, [f"rollout.prompts_per_step={batch}", f"optim.steps={steps}", "eval=null"]))
    system = plan.config.student.system_prompt
    head = [{"role": "system", "content": system}] if system else []
    rows = [
        {"prompt": [*head, {"role": "user", "content": pair.problem.question}]}
        for i in range(steps) for pair in train.batch_of(plan, i)
    ]  # fmt: skip
    file = Path(folder) / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run_trl(args: argparse.Namespace, arm: str, dtype: str, steps: int, batch: int) -> dict[str, Any]:
    """TRL at the same N, batch, LoRA and prompts."""
    from esr.config.configfile import load

    config = load(args.config)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            args.trl_python, str(HERE / "trl_step.py"), "--dtype", dtype,
            "--student", config.student.model, "--teacher", config.teacher.model,
            "--steps", str(steps), "--batch", str(batch), "--new-tokens", str(args.n),
            "--temperature", str(config.rollout.temperature), "--top-p", str(config.rollout.top_p),
            "--prompts", str(prompts_file(args, steps, batch, folder)),
        ] + ["--no-stop"] * args.no_stop + ["--gradient-checkpointing"] * ("checkpointing" in arm)  # fmt: skip
        return last_json(command)


def last_json(command: list[str]) -> dict[str, Any]:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=one_thread)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    args = arguments()
    if args.arm:
        arm, dtype, steps, batch = args.arm.split(":")
        print(json.dumps(measure(args, arm, dtype, int(steps), int(batch))))
        return
    from clock import machine

    has_trl = subprocess.run([args.trl_python, "-c", "import trl"], capture_output=True).returncode == 0
    if not has_trl:
        print("trl is not installed for --trl-python; left out", file=sys.stderr)
    record: dict[str, Any] = {"machine": machine()}
    record |= {key: getattr(args, key) for key in ("config", "n", "full", "no_stop")}
    record["types"] = {}
    for dtype, steps, batch in zip(args.types, args.steps, args.batch, strict=True):
        arms: dict[str, dict[str, Any]] = {}
        record["types"][dtype] = {"steps": steps, "batch": batch, "arms": arms}
        for arm in ALIKE + CONFIGURED * (dtype == "float32"):
            if arm.startswith("trl") and not has_trl:
                continue
            print(f"measuring {arm} in {dtype} ...", file=sys.stderr, flush=True)
            ours = [sys.executable, __file__, *sys.argv[1:], "--arm", f"{arm}:{dtype}:{steps}:{batch}"]
            arms[arm] = run_trl(args, arm, dtype, steps, batch) if arm.startswith("trl") else last_json(ours)
            print_arm(dtype, arm, arms)
            if args.out:
                args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def print_arm(dtype: str, arm: str, arms: dict[str, dict[str, Any]]) -> None:
    """Seconds and memory; for TRL, the ratios to ESR at like settings."""
    found, base = arms[arm], arms[arm.replace("trl", "esr")]
    phases = ", ".join(f"{phase} {found[phase]:.2f}" for phase in PHASES if phase in found)
    ratio = [found[key] / base[key] for key in ("seconds", "peak_gib")]
    print(f"{dtype:9}{arm:19}{found['seconds']:8.2f} s ({phases}), {found['peak_gib']:.2f} GiB; "
          f"{ratio[0]:.2f} times the seconds, {ratio[1]:.2f} times the memory", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
