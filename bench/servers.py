"""A real vLLM server beside the local path: equal numbers, seconds and bytes of a step, and a server that is killed in mid-run.

    python bench/servers.py .venv-vllm/bin/python [--config examples/smollm2/esr.yaml] [--n 50] [--batch 8] [--out FILE]

Starts two servers with the commands that `esr serve` prints (the teacher's hidden states; the student, with adapters), trains
three steps with both, compares, kills the teacher's server in mid-run, starts it again and goes on. Ends with an error if the
numbers differ by more than rounding. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import torch

from esr import prompts, train
from esr.config import Config
from esr.configfile import load
from esr.method.divergence import reverse_kl
from esr.method.events import one_vocabulary
from esr.method.tensors import Prompts, Rollout
from esr.models.lm import LM
from esr.models.load import load_model
from esr.models.remote import TopK, open_teacher
from esr.models.server import Servers
from esr.prepare import prepare
from esr.runs.rundir import RunDir
from esr.sampling.noise import Noise
from esr.sampling.respond import respond
from esr.sampling.sampler import Sampler
from esr.scoring import compare, hidden_states

TEACHER, STUDENT = 8731, 8732
CPU = torch.device("cpu")
PHASES = ("step", "sync", "generate", "score", "train")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="a Python that has vLLM")
    parser.add_argument("--config", default="examples/smollm2/esr.yaml")
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def serve(python: Path, side: str, config: str, overrides: list[str], port: int) -> subprocess.Popen[bytes]:
    """A server, in a process group of its own; it may need minutes to begin."""
    command = [
        sys.executable,
        "-m",
        "esr.cli.main",
        "serve",
        side,
        config,
        *overrides,
        "--run",
        "--python",
        str(python),
    ]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    with open(f"/tmp/esr-bench-{side}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    wait(port, process)
    return process


def wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise SystemExit(f"the server on port {port} does not begin; see its log in /tmp")


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def timed(work: Any) -> tuple[Any, float]:
    """The second of two results, and its seconds."""
    work()
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def scores(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    """One step's responses, scored here and by the servers: largest differences, seconds, bytes."""
    student = load_model(config.student, CPU, (2,))
    plan = prepare(config)
    rows = [pair.student_ids for pair in train.batch_of(plan, 0)]
    sampler = Sampler(args.n, plan.pair.terminators, 0.7, 0.95)
    rollout = respond(student, rows, sampler, Noise.of(42, [str(i) for i in range(len(rows))]))
    side: tuple[Prompts, Rollout] = (prompts.pad(rows), rollout)
    local = load_model(config.teacher.model_copy(update={"placement": "same", "server": []}), CPU, (2,))
    remote = open_teacher(config.teacher, student, CPU, (2,))
    top = LM(
        local.module, local.tokenizer, config.teacher, (2,), scorer=TopK(Servers("k", (address(STUDENT),)), base(), 20)
    )
    events, found = one_vocabulary(local.vocab_size, plan.pair.terminators), {}
    with torch.no_grad():
        own = hidden_states(student, *side)
        for name, lm in (("local", local), ("hidden states", remote), ("20 log-probabilities", top)):
            hidden, seconds = timed(lambda lm=lm: hidden_states(lm, *side))
            tokens = rollout.response_ids[rollout.response_mask]
            kl = compare(student, local, own, hidden, tokens, events, reverse_kl).reverse_kl
            found[name] = {"seconds": seconds, "kl": kl}
    reference = found["local"]["kl"]
    read = sum(map(len, rows)) + int(rollout.lengths.sum()) - len(rows)
    width = remote.module.get_output_embeddings().weight.shape[1]  # type: ignore[operator]
    return {
        "positions": int(rollout.lengths.sum()),
        "tokens read": read,
        "seconds": {name: round(f["seconds"], 3) for name, f in found.items()},
        "bytes": {
            "hidden states": read * width * 4,
            "all logits in float32": read * local.vocab_size * 4,
            "20 log-probabilities": answer_bytes(side),
        },
        "mean reverse KL": {"local": float(reference.mean()), "hidden states": float(found["hidden states"]["kl"].mean())},
        "largest difference of the KL at a position": float((found["hidden states"]["kl"] - reference).abs().max()),
    }  # fmt: skip


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def base() -> str:
    """The name of the student's base on its server."""
    return str(httpx.get(f"{address(STUDENT)}/v1/models", trust_env=False).json()["data"][0]["id"])


def answer_bytes(side: tuple[Prompts, Rollout]) -> int:
    """Bytes of an answer with 20 log-probabilities a token."""
    from esr.models.remote import rows_of

    question = {"model": base(), "prompt": rows_of(*side), "max_tokens": 1, "prompt_logprobs": 20, "temperature": 0}
    return len(httpx.post(f"{address(STUDENT)}/v1/completions", json=question, timeout=600, trust_env=False).content)


def training(config: str, overrides: list[str], directory: str) -> tuple[int, str, list[dict[str, Any]]]:
    """`esr train` in a process of its own: its exit code, what it said, its metrics."""
    command = [sys.executable, "-m", "esr.cli.main", "train", config, *overrides, f"run.dir={directory}"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr, RunDir(directory).metrics()


def seconds(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean seconds of a step and its phases, the first step left out."""
    rest = rows[1:]
    return {key: round(sum(row[f"time/{key}"] for row in rest) / len(rest), 2) for key in PHASES}


def main() -> None:
    args = arguments()
    here = [
        f"rollout.max_new_tokens={args.n}",
        f"rollout.prompts_per_step={args.batch}",
        "optim.steps=3",
        "run.checkpoint_every=50",
    ]
    greedy = [
        "rollout.temperature=0",
        "eval.limit=10",
        "eval.samples=1",
        "eval.temperature=0",
        "eval.teacher=false",
        "eval.max_new_tokens=24",
    ]
    served = [
        "teacher.placement=server",
        f"teacher.server={address(TEACHER)}",
        "rollout.engine=vllm",
        f"rollout.server={address(STUDENT)}",
    ]
    evaluated = ["eval.engine=vllm", f"eval.server={address(STUDENT)}"]
    everything = [*here, *greedy, *served, *evaluated]
    home = Path("runs/bench-servers")
    shutil.rmtree(home, ignore_errors=True)
    servers = {"teacher": serve(args.python, "teacher", args.config, everything, TEACHER)}
    try:
        servers["student"] = serve(args.python, "student", args.config, everything, STUDENT)
        result = scores(load(args.config, everything), args)
        print(json.dumps(result), flush=True)
        code, said, local = training(args.config, [*here, *greedy], str(home / "local"))
        assert code == 0, said
        code, said, remote = training(args.config, everything, str(home / "remote"))
        assert code == 0, said
        runs = {"local": local, "servers": remote}
        result["steps"] = {name: seconds(rows) for name, rows in runs.items()}
        result["loss"] = {name: [row["loss"] for row in rows] for name, rows in runs.items()}
        texts = [
            [[s.text for s in RunDir(home / run).responses(e)] for e in ("step-000000", "step-000003")]
            for run in ("local", "remote")
        ]
        result["greedy evaluation responses that are the same"] = sum(
            a == b for x, y in zip(*texts, strict=True) for a, b in zip(x, y, strict=True)
        )
        print(json.dumps(result), flush=True)
        command = [
            sys.executable,
            "-m",
            "esr.cli.main",
            "train",
            args.config,
            *everything,
            f"run.dir={home / 'killed'}",
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not RunDir(home / "killed").metrics() and process.poll() is None:
            time.sleep(0.1)
        end(servers.pop("teacher"))
        _, said = process.communicate(timeout=400)
        result["killed"] = {
            "code": process.returncode,
            "steps kept": len(RunDir(home / "killed").checkpoints()),
            "said": said.strip().splitlines()[-1],
        }
        assert process.returncode == 1, said
        servers["teacher"] = serve(args.python, "teacher", args.config, everything, TEACHER)
        code, said, again = training(args.config, everything, str(home / "killed"))
        assert code == 0, said
        result["killed"]["loss"] = [row["loss"] for row in again]
    finally:
        for process in servers.values():
            end(process)
    line = json.dumps(result)
    if args.out:
        args.out.write_text(line + "\n")
    print(line)
    assert result["largest difference of the KL at a position"] < 1e-3
    assert all(abs(a - b) < 1e-2 for a, b in zip(*result["loss"].values(), strict=True))


if __name__ == "__main__":
    main()
