"""Fills `{{ help COMMAND }}` in the manual's pages with what the command itself prints, and `{{ studies }}` with a table
of the studies that ship; adds the pages of their results to the navigation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
RESULTS = "Results"  # the section of the navigation


def on_config(config: Any, **_: Any) -> Any:
    """Called by MkDocs before anything is read: pages of results need no line of their own."""
    (section,) = [entry[RESULTS] for entry in config["nav"] if isinstance(entry, dict) and RESULTS in entry]
    section += [page for page in results().values() if page not in section]
    return config


def results() -> dict[str, str]:
    """Name of a study -> page of its results, below the manual's folder."""
    return {path.stem: f"studies/{path.name}" for path in sorted((DOCS / "studies").glob("*.md"))}


def studies() -> str:
    """A table of the studies that ship and of all results; one page may be of several studies, `page-...`."""
    pages = results()
    titles, shown = {}, set()
    for path in sorted((DOCS.parent / "experiments" / "studies").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        full = path.stem.endswith("-full")  # for larger machines, not run
        own = None if full else next((n for n in pages if f"{path.stem}-".startswith(f"{n}-")), None)
        shown.add(own)
        titles[f"`{path.stem}`"] = (content["title"], pages.get(own))
    for name, page in pages.items():
        if name in shown:
            continue
        # Of programs that are no study.
        titles[name] = ((DOCS / page).read_text(encoding="utf-8").partition("\n")[0].lstrip("# "), page)
    rows = [
        f"| {name} | {title} | {f'[results]({page})' if page else ''} |"
        for name, (title, page) in titles.items()
    ]
    return "\n".join(["| study | what it asks | |", "|---|---|---|", *rows])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""

    def shown(match: re.Match[str]) -> str:
        command = match.group(1).split()
        done = subprocess.run(
            [sys.executable, "-m", "sciml.experiments", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "110", "NO_COLOR": "1"},
        )
        return f"```text\n{done.stdout.rstrip()}\n```"

    markdown = markdown.replace("{{ studies }}", studies())
    return re.sub(r"\{\{ help ?([a-z ]*?) ?\}\}", shown, markdown)
