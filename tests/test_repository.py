"""The repository holds together: packages on disk and in pyproject, light imports, bare names left alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"sciml": "sciml", "sciml.solvers": "solvers", "sciml.datasets": "datasets"}
FOLDERS |= {"sciml.models": "models", "sciml.experiments": "experiments"}


def _project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_an_init_file_is_a_listed_package():
    on_disk = set()
    for package, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            on_disk.add(".".join((package, *inner)))
    assert on_disk == set(_project()["tool"]["setuptools"]["packages"])


def test_every_extra_that_a_message_names_exists():
    extras = set(_project()["project"]["optional-dependencies"])
    assert {"graph", "report3d", "distributed", "fem", "compiled", "forest", "dev", "all"} <= extras


def test_version_is_stated_alike():
    import sciml

    assert sciml.__version__ == _project()["project"]["version"]


def test_importing_the_language_loads_nothing_heavy():
    code = (
        "import sys, sciml, sciml.pdes, sciml.solvers, sciml.constraints, sciml.regularizers, sciml.models\n"
        "heavy = {'lightning', 'pytorch_lightning', 'torch_geometric', 'pyvista', 'neuralop', 'skfem', 'matplotlib'}\n"
        "heavy |= {'cvxpy', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), 'models' in sys.modules, 'datasets' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[] False False"


def test_the_lock_file_pins_every_direct_dependency():
    pinned = {
        line.split("==")[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    project = _project()["project"]
    wanted = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        wanted += [] if name == "all" else extra
    names = {w.split(">")[0].split("[")[0].split("=")[0].strip().lower().replace("_", "-") for w in wanted}
    assert names <= pinned


def test_the_manual_names_every_study_and_every_page_of_results():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = hooks.on_page_markdown((ROOT / "docs/studies.md").read_text())
    pages = {f"studies/{path.name}" for path in (ROOT / "docs/studies").glob("*.md")}
    for path in (ROOT / "experiments/studies").glob("*.yaml"):
        assert f"| `{path.stem}` | " in text
    assert all(f"[results]({page})" in text for page in pages)
    nav = hooks.on_config({"nav": ["index.md", {"Results": ["studies/neural-ode.md"]}]})["nav"]
    assert set(nav[1]["Results"]) == pages and len(nav[1]["Results"]) == len(pages)
