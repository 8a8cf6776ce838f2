"""The part of docs/results.md about two tokenizers: a pair of two families, and what tokenizers cost, from records in results/."""

from lab_results import Json, study_section
from write_results import RESULTS, nats, read, table

HOME = "smollm2-gemma"


def families() -> list[str]:
    """SmolLM2 teaches Gemma."""
    if not (RESULTS / HOME / "study.json").exists():
        return []
    measured = (RESULTS / HOME / "per_byte.json").exists()
    again = (
        [f"python bench/per_byte.py runs/studies/smollm2-gemma-pool/* > results/{HOME}/per_byte.json"]
        if measured
        else []
    )
    lines = [
        "## Two families: SmolLM2-135M-Instruct teaches Gemma 3 270M", "",
        "```bash", "python examples/smollm2/make_models.py", "python examples/smollm2-gemma/make_models.py",
        f"esr study studies/smollm2-gemma.yaml --record results/{HOME}/study.json",
        *again, "```", "",
        "A base model and a teacher with other tokens, both quantised to about 4 bits by those who published them, on one core: few "
        "updates, few problems, two seeds, and intervals that say so.", "", *study_section(read(f"{HOME}/study.json")),
    ]  # fmt: skip
    if measured:
        lines += per_byte(read(f"{HOME}/per_byte.json"))
    return lines


def per_byte(runs: list[Json]) -> list[str]:
    """Divergence per byte, run by run."""
    names = ("before", "after", "change", "after_own")
    rows = [
        [
            str(r["n"]),
            str(r["seed"]),
            f"{r['ended_in_training']:.0%}",
            *(nats(r["nats_per_byte"][name], sign=name == "change") for name in names),
        ]
        for r in runs
    ]
    first = runs[0]
    head = [
        "N",
        "seed",
        "training rollouts that ended",
        "before, common",
        "after, common",
        "change, paired",
        "after, own",
    ]
    return [
        f"Reverse KL to the teacher in nats per byte of the response, over event classes where both models start a token, on "
        f"{first['nats_per_byte']['before']['n']} responses of at most {first['max_new_tokens']} tokens to held-out prompts of "
        f"`{first['prompts']}` (95% interval by response). *Common*: the untrained student's responses, the same for all; *own*: the "
        "trained student's.", "", *table(head, rows),
    ]  # fmt: skip


def costs() -> list[str]:
    """What the general path and the classes take."""
    if not (RESULTS / "bench" / "tokenizers.json").exists():
        return []
    record = read("bench/tokenizers.json")
    loss, classes = record["loss"], record["classes"]
    low, high = loss["ratios"]
    same = "the same number, bit for bit" if loss["equal"] else "another number"
    return [
        "## What two tokenizers cost", "", "```bash", "python bench/two_tokenizers.py > results/bench/tokenizers.json", "```", "",
        f"Loss and gradient of one step's rollouts on the lab's headline pair ({loss['tokens']:,} tokens), one tokenizer on both sides: "
        f"{loss['seconds']['plain']:.2f} processor seconds the plain way, {loss['seconds']['general']:.2f} through bytes, chunks and "
        f"classes, which give {same}: {loss['ratio']:.2f} times as long (median of {loss['repeats']} turns; {low:.2f} to {high:.2f}). "
        f"The event classes of {classes['columns'][0]:,} and {classes['columns'][1]:,} columns (Gemma 3 and SmolLM2) take "
        f"{classes['made']:.1f} processor seconds once, and {classes['cached']:.2f} from the cache.", "",
    ]  # fmt: skip
