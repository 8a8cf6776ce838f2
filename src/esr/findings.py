"""The records that analyses and studies write, each with a format version. No torch here."""

from typing import Any, Literal

from esr.results import FORMAT_VERSION, CurvePoint, Estimate, Record, Study


class Finding(Record):
    """What every analysis record tells of itself."""

    format_version: int = FORMAT_VERSION
    models: dict[str, str]
    """Model reference of each role: `student`, `teacher`, and `after` (`RUN step 30`) where there is one."""
    task: str
    """Where the problems come from, in words."""
    problems: int
    settings: dict[str, Any]
    """Every choice that the numbers depend on, seeds included."""
    seconds: float
    """Wall-clock, all sessions of a resumed analysis together."""


class DecayPoint(Record):
    """Accuracy when a model goes on after the first k tokens of another's response."""

    k: int
    """Tokens of the prefix; 0 is the model alone."""
    continued: int
    """Prefixes that were still going on, so that somebody could continue them."""
    finished: int
    """Prefixes whose response had ended within k tokens. They are counted here and left out of `avg`."""
    avg: Estimate | None
    """Accuracy of prefix and continuation, over the continued prefixes; None if there are fewer than two."""
    pass_at_k: Estimate | None
    with_finished: Estimate | None
    """As published: finished prefixes count with their own grade."""
    change: Estimate | None
    """`avg` minus the same series at k = 0, paired on the problems that both have."""


class DecaySeries(Record):
    """One curve: who wrote the prefix, who goes on, and of which prefixes."""

    prefix: Literal["student", "teacher"]
    continued_by: Literal["student", "teacher"]
    subset: Literal["all", "right", "wrong"]
    """`right` and `wrong`: by whether the writer's own completion of that prefix was right."""
    points: list[DecayPoint]


class Recommendation(Record):
    """The N that the decay curve suggests."""

    n: int | None
    """The longest measured prefix up to which no loss against k = 0 was found; None: even the shortest one loses."""
    surely: int | None
    """The longest prefix up to which a loss of more than `margin` can be ruled out."""
    at_most: int | None
    """The shortest prefix at which a loss is certain; None: none was found."""
    margin: float
    rule: str
    """The rule in words."""


class Decay(Finding):
    """How far the teacher follows the student astray: `analysis/decay.json`."""

    kind: Literal["decay"] = "decay"
    samples: int
    """Continuations of each prefix."""
    series: list[DecaySeries]
    recommendation: Recommendation


class SwapCondition(Record):
    """Accuracy of responses that one student begins and another ends."""

    prefix: Literal["before", "after"]
    tail: Literal["before", "after"]
    avg: Estimate
    change: Estimate | None
    """Against prefix and tail of the untrained student, paired by problem; None for that one itself."""


class PrefixSwap(Finding):
    """Where the gain of training sits, in the first `n` tokens or behind them: `analysis/prefix-swap.json`."""

    kind: Literal["prefix-swap"] = "prefix-swap"
    n: int
    """Tokens of the prefix."""
    samples: int
    finished: dict[str, int]
    """Prefixes of each writer (`before`, `after`) that ended within n tokens; they count with their own grade."""
    conditions: list[SwapCondition]
    share_in_prefix: float | None
    """Gain of (after, before) over gain of (after, after); None if the latter is not certain to be above zero."""


class TokenCount(Record):
    """How often a token occurs among selected positions, and what share of all its positions was selected."""

    token: str
    count: int
    share: float


class Selected(Record):
    """What one selection keeps of full rollouts at K positions a response."""

    by: str
    k: int
    positions: int
    share_of_kl: Estimate
    """Kept reverse KL over all of it, by response."""
    mean_kl: float
    """Nats at the kept positions."""
    mean_position: float
    """0 is the first token of a response."""
    overlap: dict[str, float]
    """Of the positions kept, the share that each other selection keeps too."""
    tokens: list[TokenCount]
    """The most frequent kept tokens."""
    example: list[tuple[str, bool]]
    """One response: its tokens, and which of them are kept."""


class SelectionShares(Finding):
    """Is it position, or the largest signal? `analysis/selection.json`."""

    kind: Literal["selection"] = "selection"
    max_new_tokens: int
    responses: int
    selections: list[Selected]


class SubModeRow(Record):
    """How a model commits at the positions of largest divergence from the teacher."""

    model: str
    """`before`, `after`, the name of another run, or `teacher` (the teacher at the untrained student's positions)."""
    positions: int
    threshold: float
    """Nats: the least divergence among them."""
    top1: Estimate
    """Probability of the model's own most probable event; the interval's unit is a response."""
    rank_1: Estimate
    """Share of positions at which that event is the teacher's first choice."""
    rank_2_5: Estimate
    rank_beyond: Estimate


class Candidate(Record):
    """One token and its probability under both models."""

    token: str
    student: float
    teacher: float


class BimodalPosition(Record):
    """A position at which the teacher has two modes."""

    problem: str
    position: int
    context: str
    """The response up to this position (its end)."""
    reverse_kl: float
    candidates: list[Candidate]
    """Most probable first, by the teacher; the student before training."""
    after: list[Candidate]
    """The same tokens with the trained student; empty without one."""


class SubMode(Finding):
    """Does the student commit to a secondary mode of the teacher? `analysis/submode.json`."""

    kind: Literal["submode"] = "submode"
    trajectories: Literal["own", "shared"]
    """On each model's own responses, or on the untrained student's for all."""
    decile: Literal["per-model", "shared"]
    """The top tenth by divergence of each model's own positions, or the untrained student's positions for all."""
    divergence: Literal["reverse_kl", "forward_kl"]
    rows: list[SubModeRow]
    bimodal: list[BimodalPosition]
    bimodal_share: float
    """Share of the untrained student's positions at which the teacher is bimodal by the rule in `settings`."""


class TokenView(Record):
    """One token of a response with what both models thought of it."""

    token: str
    reverse_kl: float
    student_entropy: float
    teacher_entropy: float
    student_rank: int
    """1: the student's own first choice."""
    teacher_rank: int
    student_top: list[tuple[str, float]]
    """Five most probable tokens and their probabilities."""
    teacher_top: list[tuple[str, float]]


class RolloutView(Record):
    """One response, token by token."""

    problem: str
    question: str
    model: Literal["before", "after"]
    """Who wrote it; `student_*` fields of its tokens are this model's."""
    right: bool | None
    finished: bool
    tokens: list[TokenView]


class Rollouts(Finding):
    """Responses to read: `analysis/rollouts.json`."""

    kind: Literal["rollouts"] = "rollouts"
    rollouts: list[RolloutView]


class LengthRow(Record):
    """Response lengths of one model."""

    model: str
    """`before`, `step 30`, `teacher`, or another run's name."""
    responses: int
    finish_rate: Estimate
    p10: Estimate
    """Tokens; intervals of quantiles are by a bootstrap over problems."""
    p50: Estimate
    p90: Estimate
    mean: Estimate
    histogram: list[tuple[int, int]]
    """(first length, count) of equal bins."""


class Lengths(Finding):
    """Does it stay concise? `analysis/lengths.json`."""

    kind: Literal["lengths"] = "lengths"
    max_new_tokens: int
    bin_width: int
    rows: list[LengthRow]


class EfficiencyRow(Record):
    """What one run cost."""

    run: str
    n: int
    """`rollout.max_new_tokens`."""
    steps: int
    responses_per_step: int
    phases: dict[str, Estimate]
    """Seconds a step in `sync`, `generate`, `score`, `train`, and in all (`step`)."""
    tokens_generated: float
    """A step, mean; likewise the next two."""
    tokens_scored: float
    tokens_trained: float
    peak_memory_gib: float
    """The highest of any step; measured, all phases of a step together."""
    memory_kind: Literal["device", "process"]
    """Allocated on the accelerator, or resident in the process (libraries included)."""
    curve: list[CurvePoint]
    seconds_to_reach: float | None
    """Training seconds at which its accuracy reaches `target` (linear between evaluations); None: not reached."""


class Efficiency(Finding):
    """What did it cost? `analysis/efficiency.json`."""

    kind: Literal["efficiency"] = "efficiency"
    device: str
    target: float | None
    """The accuracy to reach: the lowest of the runs' best points; None without evaluations."""
    rows: list[EfficiencyRow]


KINDS: dict[str, type[Record]] = {
    "decay": Decay, "prefix-swap": PrefixSwap, "selection": SelectionShares, "submode": SubMode, "rollouts": Rollouts,
    "lengths": Lengths, "efficiency": Efficiency, "study": Study,
}  # fmt: skip
"""Record classes by their `kind`."""
