"""Write docs/fits.md, what fits on which cards, from results/bench/scale.json. No number in it is typed by hand.

python tools/write_fits.py > docs/fits.md
"""

# ruff: noqa: E501 (sentences)

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from write_results import read, table

HEAD = """# What fits on which cards, and what a step costs there at least

Written by `python tools/write_fits.py` from `results/bench/scale.json`, which `python bench/scale.py` makes from the shapes of real models:
no card was used. **What fits** is the memory plan of `esr check` (`esr.budget.plan`), for prompts of {prompt} tokens, 16 a step, every response
of full length, bfloat16. **Seconds are a floor**, not a forecast: weights and caches are read at the card's full bandwidth, products run at
its full speed, weights that travel do so at the link's, and nothing else takes time. Steps that were measured took {low:.1f} to {high:.0f} times
their floor (last table). For ratios between two rows the floor is the better guide, as long as the same phase dominates both.

A cell is the fewest cards (of 1, 2, 4, 8 that train, and those of servers) and the seconds of a step at N = 100 and with full rollouts (cap 2,048).
Cards in brackets: *t* of them only have the teacher, *w* only write, as there is no room to write beside the rest. A dash: it fits on none of these.
Where both N need other numbers of cards, both stand there."""


def one(cell: dict[str, Any] | None) -> tuple[str, str]:
    """Cards, and seconds."""
    if cell is None:
        return "-", "-"
    aside = [
        f"{cell[key]} {letter}" for key, letter in (("teacher_cards", "t"), ("writer_cards", "w")) if cell.get(key)
    ]
    step = cell["step"]
    cards = f"{cell['cards']} ({', '.join(aside)})" if aside else str(cell["cards"])
    return cards, f"{step:.0f}" if step >= 100 else f"{step:.2g}"


def both(short: dict[str, Any] | None, full: dict[str, Any] | None) -> str:
    """A cell of the table: both N."""
    (cards, seconds), (more, longer) = one(short), one(full)
    if cards == more:
        return "-" if cards == "-" else f"{cards}: {seconds} / {longer} s"
    return f"{cards}: {seconds} s / {more}: {longer} s"


def fits(record: dict[str, Any]) -> list[str]:
    """A table for each pair."""
    by: dict[Any, dict[str, Any]] = {
        (tuple(r["pair"]), r["train"], r["placement"], r["n"]): r["cells"] for r in record["table"]
    }
    lengths = sorted({n for *_, n in by})
    cards, lines = list(record["table"][0]["cells"]), list[str]()
    for pair in dict.fromkeys(pair for pair, *_ in by):
        rows = [
            [f"`{place}`", "LoRA" if train == "lora" else "all weights", *(both(*(by[pair, train, place, n][c] for n in lengths)) for c in cards)]
            for train in ("lora", "full")
            for place in dict.fromkeys(place for _, _, place, _ in by)
        ]  # fmt: skip
        lines += [f"## {pair[0]} <- {pair[1]}", "", *table(["teacher", "trained", *cards], rows)]
    return lines


def machines(record: dict[str, Any]) -> list[str]:
    """The machines that are meant."""
    rows = [
        [name, *(f"{m[key] / 1e9:,.0f}" for key in ("memory", "bandwidth")), f"{m['flops'] / 1e12:,.0f}",
         *(f"{m[key] / 1e9:,.0f}" for key in ("link", "host")), m["source"]]
        for name, m in record["machines"].items()
    ]  # fmt: skip
    head = ["card", "GB", "GB/s", "bfloat16 TFLOP/s, dense", "to a card, GB/s", "from the host, GB/s", "source"]
    return ["## The cards", "", *table(head, rows)]


def measured(record: dict[str, Any]) -> list[str]:
    """Floors beside what was measured."""
    names = ("write", "score", "train", "step")
    rows = [
        [s["what"], *("{measured:.1f} / {floor:.2f} = {factor:.1f}".format(**s["phases"][name]) for name in names)]
        for s in record["seconds"]
    ]
    ratios = [m["ratio"] for m in record["memory"]]
    return [
        "## Held against what was measured", "",
        f"Memory: in the {len(ratios)} settings of [results.md](results.md#memory-planned-and-measured) the plan is {min(ratios):.2f} to "
        f"{max(ratios):.2f} times the peak that was measured, on a CPU in float32. No card has been measured.", "",
        "Seconds: measured / floor = factor. The article's are of another program (transformers' `generate` at N = 100, a vLLM that is started "
        "anew for each step with full rollouts); the mean lengths of its rollouts are those of its untrained student. For ours, the processor's "
        "bandwidth and speed were measured in one thread beside other work, at another time than the step.", "",
        *table(["", *names], rows),
    ]  # fmt: skip


if __name__ == "__main__":
    record = read("bench/scale.json")
    factors = [s["phases"]["step"]["factor"] for s in record["seconds"]]
    head = HEAD.format(prompt=record["prompt"], low=min(factors), high=max(factors))
    print("\n".join([head, "", *fits(record), *machines(record), *measured(record)]).rstrip())
