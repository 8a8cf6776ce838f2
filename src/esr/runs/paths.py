"""Where everything of a run lies. No other module spells one of these names. No torch here.

    config.json  env.json  metrics.jsonl  rollouts.jsonl  evals/  analysis/  checkpoints/step-000050/

A pair with two tokenizers adds tokenizers.json, servers adapters/, a step that is not finite nonfinite/, a study train.log and
finished.json.
"""

from pathlib import Path

from esr.records.steps import step_name


class RunPaths:
    """The paths of one run's files, there or not."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "env.json"

    @property
    def tokenizers_file(self) -> Path:
        return self.path / "tokenizers.json"

    @property
    def metrics_file(self) -> Path:
        """One row for each optimiser step."""
        return self.path / "metrics.jsonl"

    @property
    def rollouts_file(self) -> Path:
        """A few rollouts of some steps, to read."""
        return self.path / "rollouts.jsonl"

    @property
    def adapters(self) -> Path:
        """The student's adapter as servers read it, under a new name for each step."""
        return self.path / "adapters"

    @property
    def log_file(self) -> Path:
        """What the process of a study's run said."""
        return self.path / "train.log"

    @property
    def finished_file(self) -> Path:
        """A study's note that the process of a run has ended well, and how long it took."""
        return self.path / "finished.json"

    @property
    def evaluations_folder(self) -> Path:
        return self.path / "evals"

    def evaluation_file(self, name: str) -> Path:
        return self.evaluations_folder / f"{name}.json"

    def responses_file(self, name: str) -> Path:
        """The graded responses behind an evaluation."""
        return self.evaluations_folder / f"{name}.jsonl"

    @property
    def analyses_folder(self) -> Path:
        return self.path / "analysis"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def nonfinite_folder(self) -> Path:
        return self.path / "nonfinite"

    def analysis_file(self, name: str) -> Path:
        return self.analyses_folder / f"{name}.json"

    def parts_file(self, name: str) -> Path:
        """Finished parts of an analysis that is not whole yet."""
        return self.analyses_folder / f".{name}.parts.jsonl"

    def checkpoint(self, step: int) -> Path:
        """The directory of a step's checkpoint, there or not."""
        return self.checkpoints_folder / step_name(step)

    def nonfinite_file(self, step: int) -> Path:
        """What repeats a step whose loss or gradient is not finite, with the checkpoint of the step before."""
        return self.nonfinite_folder / f"{step_name(step)}.safetensors"
