"""Fills `{{ help COMMAND }}` in the manual's pages with what the command itself prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any


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

    return re.sub(r"\{\{ help ?([a-z ]*?) ?\}\}", shown, markdown)
