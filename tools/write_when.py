"""Write docs/when.md, "when ESR helps and when it does not", from the records in results/lab. No number in it is typed by hand.

python tools/write_when.py > docs/when.md
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from lab_results import Json, arms
from write_results import pct, read, table

HEAD = """# When ESR helps, and when it does not

Written by `python tools/write_when.py` from the records in `results/lab`; everything below was measured on the lab's tiny models
([lab.md](lab.md)), with three training seeds. What holds there need not hold for your pair: `esr check CONFIG` measures yours before
you train ([check.md](check.md)). Percent; differences are paired, with 95% intervals over problems and seeds."""


def gap(study: Json, arm: str) -> str:
    """An arm against its reference."""
    return pct(arms(study)[arm]["difference"], sign=True)


def gain(study: Json, arm: str) -> str:
    """An arm against the untrained student."""
    return pct(arms(study)[arm]["gain"], sign=True)


def series(decay: Json, *key: str) -> str:
    """Accuracy after a few prefix lengths: who wrote them, who goes on, and whose they are."""
    found = next(s for s in decay["series"] if (s["prefix"], s["continued_by"], s["subset"]) == key)
    return ", ".join(f"k = {p['k']}: {pct(p['avg'])}" for p in found["points"] if p["k"] in (0, 10, 50, 75))


def rows() -> list[list[str]]:
    """What was changed, what came of it, and what follows."""
    main, seconds, sweep, pairs, selection = (
        read(f"lab/{name}.json") for name in ("main", "main-seconds", "n-sweep", "pairs", "selection")
    )
    by_n = {a["n"]: a for a in sweep["arms"]}
    return [
        [
            "You have a fixed time, not a fixed number of steps",
            f"ESR ahead of full rollouts: {gap(seconds, 'esr')} after equal training time",
            "Stop early, and take the steps that it saves",
        ],
        [
            "You have a fixed number of steps, and time enough",
            f"ESR behind: {gap(main, 'esr')} after equal updates; untrained to ESR {gain(main, 'esr')}",
            "Full rollouts, or ESR first and full rollouts for what lies after N",
        ],
        [
            "N ends before the student has committed to a way of solving it",
            "; ".join(f"N = {n}: {pct(by_n[n]['avg'])}" for n in (30, 50, 75, 100, 200)),
            "Choose N where the student, after the teacher's first N tokens, is suddenly right: `esr check` looks for that",
        ],
        [
            "The student can carry out what the teacher begins (`student-2-able`)",
            f"gain {gain(pairs, 'able-esr')}; against full rollouts {gap(pairs, 'able-esr')}",
            "This is ESR's case",
        ],
        [
            "The student is of the same generation, less able (`student-2`)",
            f"gain {gain(pairs, 'same-generation-esr')}; against full rollouts {gap(pairs, 'same-generation-esr')}",
            "ESR costs a fraction and no difference was found",
        ],
        [
            "The student is of another, weaker generation (`student-1`)",
            f"gain {gain(pairs, 'cross-generation-esr')}; full rollouts {gain(pairs, 'cross-generation-full')}",
            "Neither is certain to gain; look at the seeds before you pay for many",
        ],
        [
            "The student cannot do the task at all (`far-0`)",
            f"gain {gain(pairs, 'far-esr')}; full rollouts {gain(pairs, 'far-full')}",
            "No on-policy distillation: supervised fine-tuning on the teacher's responses first",
        ],
        [
            "You pay for full rollouts anyway and train on 100 of their positions",
            f"largest divergence {gap(selection, 'top_kl')} against full, the first 100 {gap(selection, 'esr')}, "
            f"the last 100 {gap(selection, 'last')}",
            "The first positions are not the best ones here; they are the ones that cost nothing to reach",
        ],
    ]


def mechanism() -> list[str]:
    """Why, with the measurements that show it."""
    decay = read("lab/decay.json")
    return [
        "## Why",
        "",
        "* **The teacher obeys.** After a prefix of a response that ends wrong the teacher is wrong too "
        f"({series(decay, 'student', 'teacher', 'wrong')}); after one of a response that ends right it is right "
        f"({series(decay, 'student', 'teacher', 'right')}). Its scores on the rest of a wrong response teach how to go on "
        "with the mistake.",
        "* **What decides is in the first tokens.** The student after the teacher's first k tokens: "
        f"{series(decay, 'teacher', 'student', 'all')}.",
        "* **What is left after N** is carrying it out: the ESR-trained student chooses right and slips later, where only longer "
        "rollouts train it. That is the difference at equal updates.",
    ]


def main() -> None:
    """The page."""
    print(HEAD, "", *table(["situation", "measured", "what follows"], rows()), *mechanism(), sep="\n")


if __name__ == "__main__":
    main()
