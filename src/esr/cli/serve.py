"""`esr serve`."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from esr.cli import show
from esr.config import Config
from esr.config.configfile import load
from esr.console import loading, say
from esr.errors import UserError
from esr.runs.trust import from_file

ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
"""Without it vLLM takes no adapter while it runs."""


def serve(
    side: Annotated[Literal["teacher", "student"], typer.Argument(help="Which model.", show_default=False)],
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Start the server instead of printing its command.")] = False,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python", help="With --run: a Python that has vLLM; default: `vllm` on the path.", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the command as JSON.")] = False,
) -> None:
    """Print the command that serves a model of this pair with vLLM, exactly as `esr` needs it.

    The teacher gives hidden states (or top-k log-probabilities), the student writes with the adapters that a run pushes.

    Example: `esr serve teacher mine.yaml teacher.placement=server teacher.server=http://127.0.0.1:8000 --run`
    """
    settings = from_file(load(config, list(overrides or [])), config)
    loading()
    from esr.models.load import location

    words = arguments(side, settings, location(getattr(settings, side).model))
    variables = ADAPTERS if "--enable-lora" in words else {}
    if run:
        start(words, variables, python)
    if json:
        show.emit({"command": ["vllm", *words], "environment": variables})
    else:
        show.out.print(
            " ".join([*(f"{k}={v}" for k, v in variables.items()), shlex.join(["vllm", *words])]),
            markup=False,
            soft_wrap=True,
        )


def arguments(side: Literal["teacher", "student"], config: Config, model: str) -> list[str]:
    """What follows `vllm`. Raises `UserError` for a model that a server cannot give as it is."""
    own = config.teacher if side == "teacher" else config.student
    if own.gguf_file:
        raise UserError(f"{side}.gguf_file: vLLM would read other weights than esr; export it as a whole model first.")
    urls = (
        config.teacher.server
        if side == "teacher"
        else config.rollout.server or (config.eval.server if config.eval else [])
    )
    words = ["serve", model, "--dtype", own.dtype, "--max-model-len", str(longest(side, config)), *address(urls)]
    if own.revision:
        words += ["--revision", own.revision]
    if own.trust_remote_code:
        words.append("--trust-remote-code")
    if side == "student":
        rank = max(8, config.student.lora.r)
        adapters = (
            ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", "2"]
            if config.student.train == "lora"
            else []
        )
        return [*words, *adapters, "--generation-config", "vllm"]
    if config.teacher.server_scores == "top_k":
        return [*words, "--max-logprobs", str(config.teacher.server_top_k), "--generation-config", "vllm"]
    return [*words, "--runner", "pooling", "--pooler-config.task", "token_embed", "--no-enable-prefix-caching"]


def longest(side: Literal["teacher", "student"], config: Config) -> int:
    """Tokens of the longest row: a prompt and a response, and one for the server."""
    lengths = [config.rollout.max_new_tokens]
    if config.eval and (side == "student" or config.teacher.server_scores == "top_k"):
        lengths.append(config.eval.max_new_tokens)
    return config.data.max_prompt_tokens + max(lengths) + 1


def address(urls: list[str]) -> list[str]:
    """Host and port of the first address; vLLM's own without one."""
    if not urls:
        return []
    host, _, port = urls[0].partition("://")[2].partition("/")[0].rpartition(":")
    return ["--host", host, "--port", port] if host else []


def start(words: list[str], variables: dict[str, str], python: Path | None) -> None:
    """Become the server. Raises `UserError` where vLLM is not."""
    program = [str(python), "-m", "vllm.entrypoints.cli.main"] if python else [shutil.which("vllm") or ""]
    if not program[0] or not Path(program[0]).exists():
        raise UserError(
            f"{program[0] or 'vllm'}: not here; install vLLM in an environment of its own and give its Python with --python."
        )
    say(f"Starting {shlex.join(words)}.")
    sys.stdout.flush()
    os.execve(program[0], [*program, *words], {**os.environ, **variables})
