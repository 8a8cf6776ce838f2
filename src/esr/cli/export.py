"""`esr export`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from esr.cli import show
from esr.console import loading
from esr.errors import UserError
from esr.runs.abroad import Abroad, write
from esr.runs.files import dumps, new_directory, writable, write_text
from esr.runs.recipes import ToolName, notes, translate
from esr.runs.rundir import RunDir, open_run
from esr.runs.trust import require_trust


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Directory to create.", show_default=False)],
    step: Annotated[int | None, typer.Option(help="Checkpoint to export; default: the last.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Export the PEFT adapter instead of a merged model.")
    ] = False,
    evals: Annotated[
        Abroad | None, typer.Option(help="Write the run's evaluations instead, as `lm-eval` or `inspect` has them.")
    ] = None,
    to: Annotated[
        ToolName | None, typer.Option("--to", help="Write the recipe instead, for `trl`, `verl` or `ms-swift`.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the trained student as a model directory with a model card, or what a run was measured to, or its recipe, for other tools.

    Example: `esr export runs/smollm2 models/my-student`
    """
    directory = open_run(run)
    if evals is not None:
        export_evaluations(directory, out, evals, json)
        return
    if to is not None:
        export_recipe(directory, out, to, json)
        return

    loading()
    from esr.export import export as export_run

    kind = "adapter" if adapter else "merged"
    target = export_run(directory, out, step, kind)
    if json:
        show.emit({"path": str(target), "kind": kind})
    else:
        show.out.print(
            f"Wrote {target} ({kind}). Its README.md states the recipe and the measured results.", markup=False
        )


def export_evaluations(directory: RunDir, out: Path, how: Abroad, as_json: bool) -> None:
    """All evaluations of a run in another harness's files. Raises `UserError` if there is none."""
    from esr.tasks.problems import asked

    found = directory.evaluations()
    if not found:
        raise UserError(f"{directory.path} has no evaluation; make one with `esr eval {directory.path}`.")
    config = directory.config()
    files = [file for e in found for file in write(how, out, e, directory.responses(e.name), asked(config, e))]
    if as_json:
        show.emit({"files": list(map(str, files)), "kind": how})
    else:
        show.out.print(f"Wrote {len(files)} files of {len(found)} evaluations to {out}.", markup=False)


def export_recipe(directory: RunDir, out: Path, tool: ToolName, as_json: bool) -> None:
    """The run's configuration for another tool, its training prompts, and what is not the same. Raises `UserError`."""
    if out.exists():
        raise UserError(f"{out} exists already; choose another directory.")
    config = require_trust(directory.config(), directory.path)
    recipe = translate(config, tool)
    loading()
    from esr.prepare import conversations

    with writable(out), new_directory(out) as folder:
        write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.settings, sort_keys=False, allow_unicode=True))
        write_text(folder / "README.md", notes(recipe, tool, directory.path.name))
        write_prompts(folder, tool, conversations(config))
    if as_json:
        show.emit({"path": str(out), "start": recipe.start, "differs": recipe.differs})
    else:
        show.out.print(f"Wrote {out} for {tool}: `{recipe.start}`. Not the same there:", markup=False)
        for sentence in recipe.differs:
            show.out.print(f"* {sentence}", markup=False, soft_wrap=True)


def write_prompts(folder: Path, tool: ToolName, prompts: list[list[dict[str, Any]]]) -> None:
    """Training prompts as conversations, in the columns that a tool reads."""
    if tool == "verl":
        from datasets import Dataset

        judged = {"data_source": "esr", "reward_model": {"style": "rule", "ground_truth": ""}}
        Dataset.from_list([{"prompt": p, **judged} for p in prompts]).to_parquet(str(folder / "prompts.parquet"))
        return
    column = "prompt" if tool == "trl" else "messages"
    write_text(folder / "prompts.jsonl", "".join(dumps({column: p}) + "\n" for p in prompts))
