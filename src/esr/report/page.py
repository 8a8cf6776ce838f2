"""The whole page: sections into one HTML document without any external address."""

import base64
import hashlib
from dataclasses import replace
from functools import cache
from importlib import import_module, resources
from types import ModuleType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from esr import __version__
from esr.analysis import ANALYSES
from esr.report.format import json_block
from esr.report.section import Section
from esr.report.sections import comparison, how, provenance, summary, sweep, tokenizers, training
from esr.report.sources import Data, Found, Run

BEHIND = {"decay": (how, tokenizers, sweep)}
"""Sections that show no analysis, behind the one that they go on from."""
LARGEST = 2_000_000
"""Bytes; rollouts are left out until the page is smaller."""


def render(data: Data, refresh: int | None = None) -> str:
    """The page. `refresh`: let the browser load it again every so many seconds (`esr watch`)."""
    while True:
        page = _render(data, refresh)
        less = _fewer_rollouts(data)
        if len(page.encode()) < LARGEST or less is None:
            return page
        data = less


def sections(data: Data) -> list[Section]:
    """All sections, those without data included. While a run goes on, its training comes first."""
    modules = [*order()] if data.comparison is None else [comparison, *order()[1:]]
    if any(run.going for run in data.runs):
        modules.remove(training)
        modules.insert(1, training)
    return [module.view(data) for module in modules]


@cache
def order() -> tuple[ModuleType, ...]:
    """The modules of all sections: the summary, those of the analyses in the order of their table, training, where all comes from."""
    modules: list[ModuleType] = [summary]
    for name in dict.fromkeys(row.section for row in ANALYSES.values()):
        modules += [import_module(f"esr.report.sections.{name}"), *BEHIND.get(name, ())]
    return (*modules, training, provenance)


@cache
def environment() -> Environment:
    """Templates with autoescape: whatever comes from a record is text."""
    env = Environment(
        loader=PackageLoader("esr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["json_block"] = json_block
    return env


def _render(data: Data, refresh: int | None) -> str:
    env = environment()
    there = sections(data)
    parts = [
        (s, Markup(env.get_template(s.template).render(section=s, **(s.context or {})))) for s in there if s.template
    ]
    scripts = [(code, _hash(code)) for code in map(_script, _static(".js"))]
    return env.get_template("page.html").render(
        sections=parts,
        absent=[section for section in there if not section.template],
        title=title(data),
        version=__version__,
        trouble=data.trouble,
        refresh=refresh,
        scripts=scripts,
        going=[run.label for run in data.runs if run.going],
        style=Markup("\n".join(_static(".css"))),
    )


def title(data: Data) -> str:
    """The pair of models that the page is about, or the runs that it compares."""
    if data.comparison is not None:
        return " against ".join([*(run.label for run in data.runs[1:]), data.runs[0].label])
    if data.studies:
        arm = next(iter(data.studies[0].record.arms), None)
        pair = (arm.student, arm.teacher_model) if arm else ("", "")
    else:
        pair = (data.runs[0].config.student.model, data.runs[0].config.teacher.model)
    return " ← ".join(name.rstrip("/").rsplit("/", 1)[-1] for name in pair if name) or "On-policy distillation"


def _static(suffix: str) -> list[str]:
    """The files of `static/` with this suffix; `page` first."""
    files = [f for f in resources.files("esr.report").joinpath("static").iterdir() if f.name.endswith(suffix)]
    ordered = sorted(files, key=lambda f: (f.name != f"page{suffix}", f.name))
    return [f.read_text(encoding="utf-8") for f in ordered]


def _script(code: str) -> Markup:
    """A script in a scope of its own."""
    return Markup(f'(function () {{\n"use strict";\n{code}\n}})();')


def _hash(code: str) -> str:
    """How the page's content policy names a script: nothing else runs, whatever a model wrote."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _fewer_rollouts(data: Data) -> Data | None:
    """Half as many rollouts in every run that has more than one; None if there is nothing to leave out."""
    runs = [_halved(run) for run in data.runs]
    return replace(data, runs=runs) if runs != data.runs else None


def _halved(run: Run) -> Run:
    found = run.analyses.get("rollouts")
    if found is None or len(found.record.rollouts) < 2:
        return run
    kept: Any = found.record.rollouts[: len(found.record.rollouts) // 2]
    fewer = Found(found.record.model_copy(update={"rollouts": kept}), found.file, found.name)
    return replace(run, analyses={**run.analyses, "rollouts": fewer})
