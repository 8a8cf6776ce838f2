"""A real vLLM server beside the local path: equal numbers, seconds and bytes of a step, and a server that is killed in mid-run.

    python bench/servers.py .venv-vllm/bin/python [--config examples/smollm2/esr.yaml] [--n 50] [--batch 8] [--threads 1] [--out FILE]

Starts servers with the commands that `esr serve` prints (the teacher's hidden states; its top-k log-probabilities; the student,
with adapters), scores the same responses on each path, trains three steps here and with servers, pushes the adapter of every step,
kills the teacher's server in mid-run, starts it again and goes on. Ends with an error if the numbers differ by more than rounding.
The last line is JSON.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from clock import machine

from esr import prompts, train
from esr.config import Config
from esr.config.configfile import load
from esr.method.divergence import reverse_kl
from esr.method.events import one_vocabulary
from esr.method.tensors import Prompts, Rollout
from esr.models.load import load_model
from esr.models.remote import open_teacher, rows_of
from esr.models.server import Servers
from esr.prepare import prepare
from esr.runs.rundir import RunDir
from esr.sampling.noise import Noise
from esr.sampling.respond import respond
from esr.sampling.sampler import Sampler
from esr.sampling.served import log_probs
from esr.sampling.server import ServerWriter, distance, name_of
from esr.scoring import compare, hidden_states

HIDDEN, STUDENT, TOP = (f"http://127.0.0.1:{port}" for port in (8731, 8732, 8733))
K = 20
STEPS = 3
CPU = torch.device("cpu")
PHASES = ("step", "sync", "generate", "score", "train")
ESR = [sys.executable, "-m", "esr.cli.main"]
HOME = Path("runs/bench-servers")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="a Python that has vLLM")
    parser.add_argument("--config", default="examples/smollm2/esr.yaml")
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


@contextmanager
def serving(args: argparse.Namespace, side: str, url: str, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, from when it answers (it may need minutes) to its end."""
    command = [*ESR, "serve", side, args.config, *options, "--run", "--python", str(args.python)]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(args.threads),
    }
    with tempfile.NamedTemporaryFile("wb", suffix=f"-{side}.log", delete=False) as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 1800
        while not answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server of the {side} does not begin; see {log.name}")
            time.sleep(1)
        yield process
    finally:
        end(process)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a server and its engine."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def timed(work: Any) -> tuple[Any, float]:
    """The second of two results, and its seconds."""
    work()
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def scores(configs: dict[str, Config], args: argparse.Namespace) -> dict[str, Any]:
    """One step's responses, scored by each path of `configs`: seconds, bytes, divergence, its largest difference to the local one."""
    config = configs["local"]
    student, plan = load_model(config.student, CPU, (2,)), prepare(config)
    rows = [pair.student_ids for pair in train.batch_of(plan, 0)]
    sampler = Sampler(args.n, plan.pair.terminators, 0.7, 0.95)
    rollout = respond(student, rows, sampler, Noise.of(42, [str(i) for i in range(len(rows))]))
    side: tuple[Prompts, Rollout] = (prompts.pad(rows), rollout)
    local = load_model(config.teacher, CPU, (2,))
    events, tokens = (
        one_vocabulary(local.vocab_size, plan.pair.terminators),
        rollout.response_ids[rollout.response_mask],
    )
    paths, kls = {}, {}
    with torch.no_grad():
        own = hidden_states(student, *side)
        for name, c in configs.items():
            lm = local if name == "local" else open_teacher(c.teacher, student, CPU, (2,))
            found, seconds = timed(lambda lm=lm: hidden_states(lm, *side))
            kls[name] = compare(student, lm, own, found, tokens, events, reverse_kl).reverse_kl
            paths[name] = {"seconds": seconds, "mean reverse KL": float(kls[name].mean())}
    read = sum(map(len, rows)) + int(rollout.lengths.sum()) - len(rows)
    paths["hidden states"]["bytes"] = read * own.shape[1] * 4
    paths["hidden states"]["largest difference of a KL"] = float((kls["hidden states"] - kls["local"]).abs().max())
    paths["log-probabilities"]["bytes"] = answer_bytes(side)
    return {
        "positions": len(tokens),
        "tokens read": read,
        "k": K,
        "bytes of all logits in float32": read * local.vocab_size * 4,
        "paths": paths,
    }


def answer_bytes(side: tuple[Prompts, Rollout]) -> int:
    """Bytes of an answer with `K` log-probabilities a token."""
    model = httpx.get(f"{TOP}/v1/models", trust_env=False).json()["data"][0]["id"]
    question = {"model": model, "prompt": rows_of(*side), "max_tokens": 1, "prompt_logprobs": K, "temperature": 0}
    return len(httpx.post(f"{TOP}/v1/completions", json=question, timeout=600, trust_env=False).content)


def training(config: str, options: list[str], directory: Path) -> list[dict[str, Any]]:
    """Metrics of `esr train` in a process of its own."""
    command = [*ESR, "train", config, *options, f"run.dir={directory}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return RunDir(directory).metrics()


def seconds(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean seconds of a step and its phases, the first step left out."""
    return {key: sum(row[f"time/{key}"] for row in rows[1:]) / len(rows[1:]) for key in PHASES}


def pushes(config: Config, run: RunDir, row: list[int]) -> list[dict[str, float]]:
    """Each checkpoint's adapter, pushed as a run does: how far the server's log-probabilities of a prompt are from ours and moved."""
    writer, found, before = ServerWriter(Servers("rollout.server", (STUDENT,)), HOME / "pushed", row), [], None
    for checkpoint in run.checkpoints():
        adapter = (checkpoint / "adapter").resolve()
        expected = log_probs(load_model(config.student.model_copy(update={"adapter": str(adapter)}), CPU, (2,)), row)
        start = time.perf_counter()
        writer.push_files(name_of(adapter, checkpoint.name), adapter, expected)
        took = time.perf_counter() - start
        said = writer.log_probs(writer.servers)
        moved = 0.0 if before is None else distance(expected, before)
        found.append({"apart": distance(said, expected), "moved": moved, "seconds": took})
        before = expected
    return found


def same_responses(a: RunDir, b: RunDir) -> list[int]:
    """How many greedy evaluation responses of two runs are the same, and of how many."""
    pairs = [
        (x.text, y.text)
        for name in ("step-000000", f"step-{STEPS:06d}")
        for x, y in zip(a.responses(name), b.responses(name), strict=True)
    ]
    return [sum(x == y for x, y in pairs), len(pairs)]


def killed(config: str, options: list[str], server: subprocess.Popen[bytes]) -> dict[str, Any]:
    """A run whose teacher's server is killed after its first step."""
    run = RunDir(HOME / "killed")
    command = [*ESR, "train", config, *options, f"run.dir={run.path}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not run.metrics() and process.poll() is None:
        time.sleep(0.1)
    end(server)
    _, said = process.communicate(timeout=1200)
    assert process.returncode == 1, said
    last = run.checkpoints()[-1].name
    return {
        "code": process.returncode,
        "kept": last,
        "steps": len(run.metrics()),
        "said": said.strip().splitlines()[-1],
    }


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Pieces of the record, one after the other."""
    here = [
        f"rollout.max_new_tokens={args.n}", f"rollout.prompts_per_step={args.batch}", f"optim.steps={STEPS}",
        "run.checkpoint_every=1", f"run.threads={args.threads}", "rollout.temperature=0", "eval.limit=10", "eval.samples=1",
        "eval.temperature=0", "eval.teacher=false", "eval.max_new_tokens=24",
    ]  # fmt: skip
    hidden = [*here, "teacher.placement=server", f"teacher.server={HIDDEN}"]
    top = [
        *here,
        "teacher.placement=server",
        f"teacher.server={TOP}",
        "teacher.server_scores=top_k",
        f"teacher.server_top_k={K}",
    ]
    writing = ["rollout.engine=vllm", f"rollout.server={STUDENT}", "eval.engine=vllm", f"eval.server={STUDENT}"]
    both = [*hidden, *writing]
    yield {"n": args.n, "batch": args.batch, "threads": args.threads, "machine": machine()}
    with ExitStack() as stack:
        teacher = stack.enter_context(serving(args, "teacher", HIDDEN, hidden))
        with serving(args, "teacher", TOP, top):
            ways = {"local": here, "hidden states": hidden, "log-probabilities": top}
            yield {"scores": scores({name: load(args.config, options) for name, options in ways.items()}, args)}
        stack.enter_context(serving(args, "student", STUDENT, both))
        rows = {name: training(args.config, o, HOME / name) for name, o in (("local", here), ("servers", both))}
        yield {"loss": {name: [row["loss"] for row in found] for name, found in rows.items()}}
        yield {"seconds": {name: seconds(found) for name, found in rows.items()}}
        yield {"same responses": same_responses(*(RunDir(HOME / name) for name in rows))}
        config = load(args.config, here)
        probe = max((pair.student_ids for pair in prepare(config).prompts), key=len)
        yield {"pushes": pushes(config, RunDir(HOME / "servers"), probe)}
        found = killed(args.config, both, teacher)
        stack.enter_context(serving(args, "teacher", HIDDEN, hidden))
        found["loss"] = [row["loss"] for row in training(args.config, both, HOME / "killed")]
        yield {"killed": found}


def main() -> None:
    args = arguments()
    record: dict[str, Any] = {}
    torch.set_num_threads(args.threads)
    shutil.rmtree(HOME, ignore_errors=True)
    for piece in measure(args):
        record |= piece
        print(json.dumps(piece), file=sys.stderr, flush=True)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    assert record["scores"]["paths"]["hidden states"]["largest difference of a KL"] < 1e-3
    for losses in (record["loss"]["servers"], record["killed"]["loss"]):
        assert all(abs(a - b) < 1e-2 for a, b in zip(record["loss"]["local"], losses, strict=True))
    assert all(push["apart"] < 1e-3 for push in record["pushes"])


if __name__ == "__main__":
    main()
