"""Complete synthetic run directories and studies: every record there is, with numbers that are random but fixed."""

import math
import random
from pathlib import Path
from typing import Any

from esr.config import Config
from esr.records.base import Estimate
from esr.records.decay import Decay, DecayPoint, DecaySeries, Recommendation
from esr.records.efficiency import Efficiency, EfficiencyRow
from esr.records.evaluation import Evaluation, Grade, Sample
from esr.records.fit import Cost, End, Fit, FitVerdict, Handover, Pilot
from esr.records.lengths import LengthRow, Lengths
from esr.records.prefix_swap import PrefixSwap, SwapCondition
from esr.records.profile import Curve, PositionBin, Profile
from esr.records.rollouts import Rollouts, RolloutView, TokenView
from esr.records.selection import Selected, SelectionShares, TokenCount
from esr.records.study import Arm, ArmSeed, CurvePoint, Study
from esr.records.submode import BimodalPosition, Candidate, SubMode, SubModeRow
from esr.records.tokenizers import TwoTokenizers
from esr.runs import findings
from esr.runs.files import dumps, write_json, write_text
from esr.runs.rundir import RunDir

HOSTILE = '</script><script>alert(1)</script> <b onmouseover="alert(2)">\'& " onmouseover=alert(3) \u2028 {{ 7*7 }}'
"""What model text may hold."""
PHASES = {"sync": 0.05, "generate": 1.1, "score": 0.3, "train": 0.8}


def estimate(value: float, half: float = 0.03, n: int = 200, top: float = 1.0) -> Estimate:
    return Estimate(value=value, low=max(-1.0, value - half), high=min(top, value + 1.1 * half), n=n)


def nats(value: float, half: float = 0.05, n: int = 40) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def config(path: Path, task: str = "lab:paths", n: int = 50, steps: int = 30) -> Config:
    return Config.model_validate({
        "student": {"model": "lab:student"}, "teacher": {"model": "lab:teacher"}, "data": {"source": task},
        "rollout": {"max_new_tokens": n}, "optim": {"steps": steps, "lr": 5e-4}, "eval": {"source": task, "every": 10},
        "run": {"dir": str(path), "seed": 7},
    })  # fmt: skip


def make_run(
    path: Path, task: str = "lab:paths", analyses: bool = True, finished: bool = True, text: str = "", n: int = 50
) -> Path:
    """A run directory as training, `esr eval` and all analyses leave it. `text` is put into everything a model wrote."""
    rng = random.Random(0)
    settings, run = config(path, task, n), RunDir(path)
    steps = settings.optim.steps if finished else 13
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "config.json", {"format_version": 1, **settings.model_dump()})
    write_json(path / "env.json", environment())
    write_text(run.metrics_file, "".join(dumps(metrics_row(rng, i + 1, steps, n)) + "\n" for i in range(steps)))
    rollout = {
        "problem": "p1", "text": f"two steps{text}", "token_ids": [5, 6, 7], "reverse_kl": [1.2345, 0.1, 0.02]
    }  # fmt: skip
    write_text(run.rollouts_file, "".join(dumps({"step": s, **rollout}) + "\n" for s in (1, 10)))
    run.save_tokenizers(tokenizers())
    for name, avg in (("step-000000", 0.42), ("step-000010", 0.49), ("step-000020", 0.52), ("teacher", 0.71)):
        run.save_evaluation(evaluation(name, avg, task + text, rng), samples(rng, avg, text))
    if finished:
        run.save_evaluation(evaluation(f"step-{steps:06d}", 0.58, task + text, rng), samples(rng, 0.58, text))
        for step in (10, 20, steps):
            folder = path / "checkpoints" / f"step-{step:06d}"
            folder.mkdir(parents=True)
            write_json(folder / "state.json", {"step": step})
    if analyses:
        for name, record in all_analyses(rng, text).items():
            findings.keep(run, name, record)
    return path


def tokenizers() -> TwoTokenizers:
    return TwoTokenizers(
        student_tokens=224, teacher_tokens=96, shared=96, classes=103, largest=17, text_bytes=61_234, positions=30_111,
        common=0.931, disagreement=0.0114, chunk_rest=0.2131,
    )  # fmt: skip


def environment() -> dict[str, Any]:
    return {
        "format_version": 1, "esr": "0.1.0", "git_revision": "0123456789abcdef", "python": "3.12.1", "platform": "Linux",
        "device": "cpu", "cpus": 2, "packages": {"torch": "2.7.0", "transformers": "5.0.0"},
        "command": "esr train lab.yaml", "resumed": [],
    }  # fmt: skip


def metrics_row(rng: random.Random, step: int, steps: int, n: int) -> dict[str, float]:
    loss = 0.9 * math.exp(-step / steps) + 0.05 * rng.random()
    row: dict[str, float] = {"step": step, "loss": loss, "kl/mean": loss, "kl/max": 4 * loss, "kl/sampled": loss * 1.02}
    row |= {
        "entropy/student": 0.4,
        "entropy/teacher": 0.3,
        "agreement/top1": 0.8,
        "stop/length": 0.9,
        "stop/terminator": 0.1,
    }
    row |= {f"time/{k}": v * (0.9 + 0.2 * rng.random()) for k, v in PHASES.items()}
    row["time/step"] = sum(row[f"time/{k}"] for k in PHASES)
    row |= {
        "tokens/generated": 16.0 * n,
        "tokens/scored": 40.0 * n,
        "tokens/trained": 16.0 * n,
        "memory/peak_gib": 1.25,
    }
    row |= {f"kl/by_position/{b}": loss * f for b, f in (("000-009", 1.5), ("010-024", 1.0), ("025-049", 0.6))}
    return row | {
        "rollout/n": float(n),
        "length/p50": float(n),
        "length/mean": float(n),
        "response/repetitive": 0.01,
        "optim/lr": 5e-4,
    }


def evaluation(name: str, avg: float, task: str, rng: random.Random) -> Evaluation:
    length = {"step-000000": 180, "teacher": 340}.get(name, 150)
    return Evaluation(
        name=name, model="lab:teacher" if name == "teacher" else "lab:student", task=task, settings={"samples": 4, "seed": 7},
        problems=200, samples=4, avg=estimate(avg), maj=estimate(avg + 0.03), pass_at_k=estimate(avg + 0.15),
        avg_first=estimate(avg - 0.01), avg_any=estimate(avg + 0.02), finish_rate=estimate(0.96, 0.01),
        avg_given_finish=estimate(avg + 0.01), repetition_rate=estimate(0.02, 0.01), strategy_rate=estimate(avg + 0.2),
        tokens={"p10": length * 0.5, "p50": float(length), "p90": length * 1.9, "mean": length * 1.1 + rng.random()},
        grader_failures=0, seconds=41.3,
    )  # fmt: skip


def samples(rng: random.Random, avg: float, text: str) -> list[Sample]:
    rows = []
    for i in range(200):
        for k in range(4):
            right = rng.random() < avg
            grade = Grade(first=right, last=right, any=right, answer="12", answers=1, strategy=True)
            rows.append(
                Sample(
                    problem=f"p{i}", sample=k, text="step" + text, tokens=100 + i, finished=True, repetitive=False, grade=grade
                )
            )  # fmt: skip
    return rows


def finding(text: str = "", **settings: Any) -> dict[str, Any]:
    models = {"student": "lab:student", "teacher": "lab:teacher", "after": "runs/lab step 30"}
    return {
        "models": models,
        "task": "lab:paths (eval)" + text,
        "problems": 120,
        "settings": {"seed": 7, **settings},
        "seconds": 61.5,
    }


def all_analyses(rng: random.Random, text: str) -> dict[str, Any]:
    """Every analysis by its file name."""
    return {
        "decay": decay(text), "prefix-swap": prefix_swap(text), "profile": profile(rng), "profile-paper": profile(rng, "paper"),
        "selection": selection(rng, text),
        "submode": submode(rng, text), "rollouts": rollouts(rng, text), "lengths": lengths(rng, text),
        "efficiency": efficiency(text), "fit": fit(rng, text),
    }  # fmt: skip


def fit(rng: random.Random, text: str = "") -> Fit:
    student, teacher = 0.42, 0.71

    def handover(k: int, avg: float, alone: float) -> Handover:
        ended = k // 3
        return Handover(
            k=k, continued=48 - ended, finished=ended, avg=estimate(avg, 0.1), gain=estimate(avg - alone, 0.1)
        )

    def pilot(n: int, last: float, after: float, accuracy: float) -> Pilot:
        end = End(
            accuracy=estimate(accuracy, 0.1),
            gain=estimate(accuracy - student, 0.1),
            after=estimate(teacher - accuracy, 0.1),
        )
        within = estimate(teacher - last - after, 0.1)
        cost = Cost(n=n, seconds=0.02 * n, peak_gib=1.0)
        return Pilot(
            n=n, steps=7, last=estimate(last, 0.1), gain=estimate(last - student, 0.1), after=estimate(after, 0.1),
            within=within, end=end, cost=cost,
        )  # fmt: skip

    pilots = [pilot(50, 0.47, 0.11, 0.58), pilot(100, 0.46, -0.02, 0.66)]
    reason = "7 steps at N = 100 changed the accuracy by +4.0 points; what lies within reach of N would change it by +24.0 points."
    return Fit(
        **finding(text, pilot=7), apart=True, student=estimate(student, 0.1), teacher=estimate(teacher, 0.1),
        gap=estimate(teacher - student, 0.1),
        decay=[handover(50, 0.5, teacher), handover(100, 0.31, teacher)],
        reach=[handover(50, 0.52, student), handover(100, 0.61, student)],
        bins=profile(rng).curves[0].bins,
        share_first={"50": 0.61, "100": 0.9},
        tokens={"student": {"p50": 140.0, "p90": 400.0}, "teacher": {"p50": 90.0, "p90": 200.0}},
        full=Cost(n=640, seconds=9.0, peak_gib=1.5), pilots=pilots,
        verdict=FitVerdict(
            answer="fits", n=100, end=pilots[1].end, faster=4.5, smaller=1.5, better="full rollouts", reasons=[reason],
            spare=0.1,
        ),
    )  # fmt: skip


def decay(text: str = "") -> Decay:
    def series(prefix: str, by: str, subset: str, start: float, slope: float) -> DecaySeries:
        points = []
        for k in (0, 10, 25, 50, 100, 150, 200):
            value = max(0.05, start - slope * k / 200 - (0.03 if k else 0))
            avg = estimate(value, 0.04, 120 - k // 3)
            points.append(DecayPoint(
                k=k, continued=120 - k // 3, finished=k // 3, avg=avg if k < 200 or subset == "all" else None,
                pass_at_k=estimate(min(value + 0.1, 1)), with_finished=estimate(value + 0.01),
                change=estimate(value - start, 0.035) if k else None,
            ))  # fmt: skip
        return DecaySeries(prefix=prefix, continued_by=by, subset=subset, points=points)  # type: ignore[arg-type]

    return Decay(
        **finding(text, max_new_tokens=600, temperature=0.7), samples=4,
        series=[
            series("student", "teacher", "all", 0.71, 0.22), series("student", "teacher", "right", 0.78, 0.02),
            series("student", "teacher", "wrong", 0.62, 0.40), series("student", "student", "all", 0.42, 0.02),
            series("teacher", "student", "all", 0.42, -0.15),
        ],
        recommendation=Recommendation(
            n=25, surely=10, at_most=100, margin=0.05, rule="The longest prefix up to which no paired loss against k = 0 is certain."
        ),
    )  # fmt: skip


def prefix_swap(text: str) -> PrefixSwap:
    pairs = (("before", "before", 0.42), ("after", "before", 0.56), ("before", "after", 0.44), ("after", "after", 0.58))
    return PrefixSwap(
        **finding(text), n=50, samples=4, finished={"before": 2, "after": 4}, share_in_prefix=0.875,
        conditions=[
            SwapCondition(prefix=p, tail=t, avg=estimate(v), change=estimate(v - 0.42) if v != 0.42 else None)
            for p, t, v in pairs
        ],
    )  # type: ignore[arg-type]  # fmt: skip


def profile(rng: random.Random, protocol: str = "ours") -> Profile:
    edges = [0, 10, 25, 50, 100, 200, 400]
    curves = []
    for model in ("before", "after"):
        for kind in ("common", "own") if protocol == "ours" else ("own",):
            bins = []
            for i, start in enumerate(edges):
                value = 0.8 * math.exp(-i / 2.5) + 0.12
                value *= 1.0 if model == "before" else (0.45 if start < 50 else 0.7)
                value *= 1.0 if kind == "common" else 0.93
                end = edges[i + 1] if i + 1 < len(edges) else None
                bins.append(PositionBin(
                    start=start, end=end, tokens=4000 - 600 * i, responses=100 - 15 * i, reverse_kl=nats(value, 0.02 + 0.01 * i),
                    forward_kl=nats(value * 1.2), student_entropy=0.4, teacher_entropy=0.3 + 0.01 * rng.random(), agreement=0.8,
                    top_k_overlap=0.7, sampled_gap=1.1 * value, few=i == len(edges) - 1,
                ))  # fmt: skip
            curves.append(Curve(model=model, trajectories=kind, bins=bins))  # type: ignore[arg-type]
    return Profile(
        step=30, trained_window=50, problems=100, prompts="lab:paths (eval)", max_new_tokens=600, seed=7, curves=curves,
        inside=nats(-0.31), beyond=nats(-0.07, 0.03), seconds=52.0, protocol=protocol,  # type: ignore[arg-type]
        share_first={"10": 0.12, "25": 0.24, "50": 0.4, "100": 0.61}, first_to_rest=2.3,
    )  # fmt: skip


def selection(rng: random.Random, text: str) -> SelectionShares:
    shares = {
        "first": 0.44, "last": 0.12, "random": 0.2, "top_kl": 0.93, "top_student_entropy": 0.66, "top_teacher_entropy": 0.5,
        "top_kl_student_entropy": 0.88,
    }  # fmt: skip
    rows = []
    for by, share in shares.items():
        tokens = [
            TokenCount(token=t + text, count=90 - 11 * i, share=0.4 - 0.05 * i)
            for i, t in enumerate(("plan", "=", "so"))
        ]
        example = [(f" t{i}" + (text if i == 3 else ""), rng.random() < 0.3) for i in range(60)]
        rows.append(Selected(
            by=by, k=50, positions=4000, share_of_kl=estimate(share, 0.02), mean_kl=share, mean_position=60 * share + 24.5,
            overlap={other: round(rng.random(), 3) for other in shares if other != by}, tokens=tokens, example=example,
        ))  # fmt: skip
    return SelectionShares(**finding(text), max_new_tokens=600, responses=100, selections=rows)


def submode(rng: random.Random, text: str) -> SubMode:
    rows = [
        SubModeRow(
            model=model, positions=900, threshold=1.4 - 0.2 * i, top1=estimate(0.7 + 0.03 * i), rank_1=estimate(0.3 + 0.1 * i),
            rank_2_5=estimate(0.58 - 0.1 * i), rank_beyond=estimate(0.12),
        )
        for i, model in enumerate(("before", "after", "full-opd" + text, "teacher"))
    ]  # fmt: skip
    bimodal = []
    for i in range(4):
        teacher = [0.5 - 0.02 * i, 0.4, 0.06, 0.03]
        student = [0.12, 0.8 - 0.03 * i, 0.05, 0.02]
        names = ["add", "double", "then", "\n"]
        bimodal.append(BimodalPosition(
            problem=f"p{i}", position=7 + 5 * i, context="start 3 goal 12. first" + text, reverse_kl=1.9 - 0.1 * i,
            candidates=[Candidate(token=t + text, student=s, teacher=p) for t, s, p in zip(names, student, teacher)],
            after=[Candidate(token=t + text, student=rng.random() / 4, teacher=p) for t, p in zip(names, teacher)],
        ))  # fmt: skip
    return SubMode(
        **finding(text, bimodal="second mode of at least 0.2"), trajectories="own", decile="per-model", divergence="reverse_kl",
        rows=rows, bimodal=bimodal, bimodal_share=0.031,
    )  # fmt: skip


def rollouts(rng: random.Random, text: str) -> Rollouts:
    def token(i: int) -> TokenView:
        top = [(f"w{j}" + text, round(0.5 / (j + 1), 4)) for j in range(5)]
        return TokenView(
            token=" step" + (text if i == 5 else ""), reverse_kl=round(2 * math.exp(-i / 20) * rng.random(), 4), student_entropy=0.4,
            teacher_entropy=round(rng.random(), 4), student_rank=1 + i % 3, teacher_rank=1 + i % 7, student_top=top, teacher_top=top[::-1],
        )  # fmt: skip

    views = [
        RolloutView(
            problem=f"p{i}", question="From 3 to 12?" + text, model="before" if i % 2 == 0 else "after",  # type: ignore[arg-type]
            right=(True, False, None, True, False, True)[i], finished=i != 4, tokens=[token(j) for j in range(120)],
        )
        for i in range(6)
    ]  # fmt: skip
    return Rollouts(**finding(text), rollouts=views)


def lengths(rng: random.Random, text: str) -> Lengths:
    rows = [
        LengthRow(
            model=name + (text if name == "full" else ""), responses=800, finish_rate=estimate(0.96), p10=nats(0.5 * m, 4), p50=nats(m, 6),
            p90=nats(1.9 * m, 14), mean=nats(1.1 * m, 6), histogram=[(50 * i, rng.randrange(5, 200)) for i in range(10)],
        )
        for name, m in (("before", 180.0), ("step 30", 150.0), ("full", 390.0), ("teacher", 340.0))
    ]  # fmt: skip
    return Lengths(**finding(text), max_new_tokens=600, bin_width=50, rows=rows)


def curve(last: float, seconds: float, tokens: int) -> list[CurvePoint]:
    return [
        CurvePoint(step=s, seconds=seconds * s / 30, tokens=tokens * s // 30, avg=estimate(0.42 + (last - 0.42) * (1 - math.exp(-s / 9))))
        for s in (0, 10, 20, 30)
    ]  # fmt: skip


def efficiency(text: str = "") -> Efficiency:
    rows = []
    for name, n, factor in (("lab", 50, 1.0), ("lab-full" + text, 600, 6.0)):
        phases = {k: nats(v * factor, 0.1 * v, 30) for k, v in PHASES.items()}
        phases["step"] = nats(sum(PHASES.values()) * factor, 0.1, 30)
        rows.append(EfficiencyRow(
            run=name, n=n, steps=30, responses_per_step=16, phases=phases, tokens_generated=780.0 * factor, tokens_scored=2100.0 * factor,
            tokens_trained=780.0 * factor, peak_memory_gib=1.25 + 0.3 * factor, memory_kind="process",
            curve=curve(0.58, 70 * factor, int(24000 * factor)), seconds_to_reach=44.0 * factor if factor == 1 else None,
        ))  # fmt: skip
    return Efficiency(**finding(text), device="cpu, 2 cores", target=0.56, rows=rows)


SWEEP = {"n10": 10, "n25": 25, "n50": 50, "n100": 100, "n200": 200, "full": 600}


def chosen(by: str) -> dict[str, Any]:
    """Overrides of an arm that trains on 50 positions; the arm `full` on all."""
    return {} if by == "full" else {"loss.selection.by": by, "loss.selection.k": 50}


def make_study(path: Path, kind: str = "n-sweep", text: str = "", failed: bool = True) -> Path:
    """A study directory (`study.json`): `n-sweep` over N with full as reference, or `selection` over selections."""
    rng = random.Random(1)
    if kind == "n-sweep":
        final = {"n10": 0.5, "n25": 0.56, "n50": 0.6, "n100": 0.59, "n200": 0.57, "full": 0.5}
        arms = [
            arm(rng, name, {"rollout.max_new_tokens": n}, n, final[name], text, failed) for name, n in SWEEP.items()
        ]
    else:
        final = {"first": 0.57, "top_kl": 0.45, "top_student_entropy": 0.55, "random": 0.54, "full": 0.5}
        arms = [
            arm(rng, by, {"rollout.max_new_tokens": 600} | chosen(by), 600, value, text, failed) for by, value in final.items()
        ]  # fmt: skip
    study = Study(
        name=kind, question="Which N?" + text, rule="updates", reference=["full"], task="lab:paths (eval)" + text, problems=200, samples=4,
        seeds=[1, 2, 3], base=config(Path("runs/base"), n=600).model_dump(),
        rules={"collapsed": "Pooled accuracy at the end is certainly below that of the untrained student by 5 points."},
        arms=arms, environment=environment(), command=f"esr study studies/lab/{kind}.yaml", seconds=3600.0,
    )  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "study.json", study.model_dump())
    return path


def arm(rng: random.Random, name: str, overrides: dict[str, Any], n: int, final: float, text: str, failed: bool) -> Arm:
    seconds = 20.0 + n * 0.7
    seeds = [arm_seed(rng, f"{name}-s{s}", s, final, seconds, n) for s in (1, 2, 3)]
    if failed and name == "n10":
        seeds[2] = ArmSeed(seed=3, run="n10-s3", error="Out of memory." + text)
    marks = ["exceeds teacher"] if name == "n50" else ["collapsed"] if name == "top_kl" else []
    return Arm(
        name=name, role="full" if name == "full" else None,
        overrides=overrides, n=n, student="lab:student", teacher_model="lab:teacher", seeds=seeds, avg=estimate(final),
        gain=estimate(final - 0.42), reference=None if name == "full" else "full",
            difference=None if name == "full" else estimate(final - 0.5, 0.025),
        to_teacher=estimate(final - 0.71), before=estimate(0.42), teacher=estimate(0.71), marks=marks, steps=30, seconds=seconds,
        seconds_per_step=seconds / 30, generated=480.0 * n, peak_memory_gib=1.0 + n / 300,
    )  # fmt: skip


def arm_seed(rng: random.Random, run: str, seed: int, final: float, seconds: float, n: int) -> ArmSeed:
    value = final + 0.03 * (rng.random() - 0.5)
    return ArmSeed(
        seed=seed, run=run, error=None, avg=estimate(value), before=estimate(0.42), teacher=estimate(0.71),
        finish_rate=estimate(0.9),
        avg_first=estimate(value - 0.01), avg_any=estimate(value + 0.02), repetition_rate=estimate(0.03),
        strategy_rate=estimate(value + 0.2),
        tokens={"p10": 80.0, "p50": 150.0, "p90": 290.0, "mean": 171.0}, steps=30, seconds=seconds, generated=480 * n,
        peak_memory_gib=1.0 + n / 300, curve=curve(value, seconds, 480 * n),
    )  # fmt: skip
