"""What steps cost on a GPU at the shapes of real models: one command, in pieces of minutes that are kept as they end.

    python bench/gpu/run.py [--out results/bench/gpu.json] [--only PIECE ...] [--list] [--trl-python PATH] [--tiny]

A piece is one pair of models at one length, in a process of its own: random weights of the true shapes (bench/gpu/shapes), made
on the spot, so that nothing is downloaded; 16 prompts of 150 tokens, LoRA of rank 32, bfloat16, and responses that all go to their
full length. Where TRL can be imported by `--trl-python`, its trainer takes the same step. What is in the file already is not
measured again; one page of results is printed in the end. `--tiny` runs everything on the CPU at small shapes: it shows that it
works, and its figures mean nothing.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAIRS = {
    "qwen2.5-math-1.5b <- qwen3-1.7b": ("qwen2.5-math-1.5b", "qwen3-1.7b"),
    "qwen3-1.7b <- qwen3-4b": ("qwen3-1.7b", "qwen3-4b"),
    "gemma-2-2b <- qwen3-4b": ("gemma-2-2b", "qwen3-4b"),
}
LENGTHS = (100, 1024, 2048)
TINY = (8, 12, 16)
MINUTES = 10
"""After which a piece is given up."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/bench/gpu.json"))
    parser.add_argument("--only", nargs="*", help="pieces by name; default: all")
    parser.add_argument("--list", action="store_true", help="names of the pieces")
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that can import trl")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def pieces(args: argparse.Namespace) -> dict[str, list[str]]:
    """By name, the command of each piece."""
    lengths = TINY if args.tiny else LENGTHS
    tiny = ["--tiny"] if args.tiny else []
    found = {}
    for name, pair in PAIRS.items():
        for n in lengths:
            found[f"{name}, N = {n}"] = [sys.executable, str(HERE / "piece.py"), *pair, str(n), *tiny]
    if subprocess.run([args.trl_python, "-c", "import trl"], capture_output=True).returncode == 0:
        for name, pair in list(PAIRS.items())[:2]:
            found[f"{name}, N = {lengths[0]}, TRL"] = [
                args.trl_python, str(HERE / "trl_piece.py"), *pair, str(lengths[0]), *tiny,
            ]  # fmt: skip
    return found


def measured(command: list[str]) -> dict[str, Any]:
    """What a piece found, or why it found nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {MINUTES} minutes"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = [
        "piece",
        "s/step",
        "sync",
        "generate",
        "score",
        "train",
        "ms a token",
        "floor",
        "times the floor",
        "peak GiB",
        "planned",
        "graphs",
    ]
    rows = []
    for name, r in record["pieces"].items():
        if "failed" in r:
            rows.append([name, r["failed"], *[""] * 10])
            continue
        phases = [f"{r[p]:.2f}" if p in r else "-" for p in ("sync", "generate", "score", "train")]
        ours = "ms_a_token" in r
        decoding = (
            [f"{r['ms_a_token']:.2f}", f"{r['floor_ms']:.2f}", f"{r['ms_a_token'] / r['floor_ms']:.1f}"]
            if ours
            else ["-"] * 3
        )
        planned = [f"{r['planned_gib']:.1f}", str(r["graphs"])] if ours else ["-"] * 2
        rows.append([name, f"{r['seconds']:.2f}", *phases, *decoding, f"{r['peak_gib']:.1f}", *planned])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    prompts = "2 prompts of 12 tokens" if record["tiny"] else "16 prompts of 150 tokens"
    return "\n".join(
        [
            f"Steps on {record['device']}, {prompts}; seconds, medians of two steps after one left out.",
            "",
            *lines,
        ]
    )


def main() -> None:
    args = arguments()
    todo = pieces(args)
    if args.list:
        print("\n".join(todo))
        return
    record = (
        json.loads(args.out.read_text()) if args.out.exists() else {"tiny": args.tiny, "device": None, "pieces": {}}
    )
    for name, command in todo.items():
        if record["pieces"].get(name, {"failed": ""}).keys() != {"failed"} or (args.only and name not in args.only):
            continue
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        record["pieces"][name] = found = measured(command)
        record["device"] = found.pop("device", record["device"])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(page(record))


if __name__ == "__main__":
    main()
