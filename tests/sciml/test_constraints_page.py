"""What the page of constraints shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from sciml.experiments import components

PAGE = Path(__file__).parents[2] / "docs/constraints.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_page_has_snippets():
    assert len(SNIPPETS) >= 3


@pytest.mark.parametrize("text", SNIPPETS, ids=[text.splitlines()[-1][:40] for text in SNIPPETS])
def test_what_the_page_says_runs(text):
    names: dict[str, object] = {}
    exec(compile(text, str(PAGE), "exec"), names)
    made = [value for value in names.values() if isinstance(value, torch.Tensor)]
    assert all(bool(torch.isfinite(value).all()) for value in made)
    assert made or any(isinstance(value, torch.nn.Module) for value in names.values())


def parts_of(tree):
    """(part, component) wherever a study's tree names one."""
    for key, value in tree.items():
        if key in ("network", "constraint", "objective"):
            yield key, value
        elif key == "violations":
            yield from (("constraint", named) for named in value.values())
        elif isinstance(value, dict):
            yield from parts_of(value)


def test_what_the_page_says_in_yaml_is_a_study():
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    found = [pair for block in blocks for pair in parts_of(yaml.safe_load(block))]
    assert len(found) >= 8
    for part, component in found:
        components.check(component, f"{PAGE.name}: {part}", part)
