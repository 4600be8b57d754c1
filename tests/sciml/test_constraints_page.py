"""What the page of constraints shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/constraints.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_page_has_snippets():
    assert len(SNIPPETS) >= 3


@pytest.mark.parametrize("text", SNIPPETS, ids=[text.splitlines()[-1][:40] for text in SNIPPETS])
def test_what_the_page_says_runs(text):
    exec(compile(text, str(PAGE), "exec"), {})
