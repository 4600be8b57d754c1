"""The report of a rollout study: verdict, table, error curves, spectra, invariants, trajectories, Jacobians, costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sciml.domains import Domain, Point
from sciml.errors import UserError
from sciml.experiments.report import figures
from sciml.experiments.report.html import Page, png, write, yaml_block
from sciml.experiments.scores import Evaluation
from sciml.experiments.storage import load, summary
from sciml.experiments.tally import WITHOUT_TRUTH
from sciml.experiments.wording import duration, number
from sciml.trajectory import channel_names

COLUMNS = (
    ("step 1", "nrmse_1"),
    ("training horizon", "nrmse_trained"),
    ("last step", "nrmse_last"),
    ("VRMSE last", "vrmse_last"),
    ("corr. time", "correlation_time"),
    ("spectrum", "spectral_distance_last"),
    ("blown up", "blown_up"),
)


def table_of(numbers: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Head, rows and row kinds of the main table from a `summary`."""
    drifts = sorted(
        {
            k
            for row in numbers["table"]
            for k in row
            if k.startswith(WITHOUT_TRUTH) and not k.endswith("_range")
        }
    )
    own = tuple((f"{name}, last step", f"{name}_last") for name in numbers["own"])
    columns = [c for c in (*COLUMNS, *own) if any(c[1] in row for row in numbers["table"])]
    head = ["", *[f"nRMSE {label}" if "nrmse" in key else label for label, key in columns]]
    head += [f"max {key}" for key in drifts] + ["CPU / step / sample", "parameters", "seeds"]
    rows, kinds = [], []
    for row in numbers["table"]:
        cells = [row["name"]]
        for _, key in columns:
            cells.append(_cell(row, key, percent=key == "blown_up"))
        cells += [_cell(row, key) for key in drifts]
        cost = row["cost_seconds_per_step_and_sample"]
        cells += [duration(cost) if cost else "—", f"{row['parameters']:,}" if row["parameters"] else "—"]
        cells.append(str(len(row["seeds"])))
        rows.append(cells)
        kinds.append(row["kind"])
    return head, rows, kinds


def _cell(row: Mapping[str, Any], key: str, percent: bool = False) -> str:
    if key not in row:
        return "—"
    value = row[key]
    if percent:
        return f"{100 * value:.0f} %"
    text = number(value)
    spread = row.get(f"{key}_interval") or row.get(f"{key}_range")
    return f"{text} [{number(spread[0])}–{number(spread[1])}]" if spread else text


def pictures(evaluation: Evaluation, domain: Domain) -> list[tuple[str, Figure, str]]:
    """(file name, figure, caption) of every picture this evaluation allows, in reading order."""
    names = channel_names(evaluation.fields, domain.dimension)
    out: list[tuple[str, Figure | None, str]] = [
        (
            "error.png",
            figures.error_against_lead_time(evaluation),
            "Error against lead time: median over trajectories and seeds, quartile bands for surrogates. "
            "The sand-coloured band is the measured discretisation error of the data: nothing below it means anything.",
        ),
        (
            "correlation.png",
            figures.error_against_lead_time(evaluation, "correlation")
            if "correlation" in evaluation.scores[0].values
            else None,
            "Correlation of prediction and truth against lead time.",
        ),
        (
            "survival.png",
            figures.survival(evaluation),
            "Fraction of rollouts that have not blown up, with its 95 % band over initial states and seeds.",
        ),
        (
            "climate.png",
            figures.climate(evaluation, names),
            "Statistics of the states after the first fifth of the rollout. The grey band is what halves of the truth "
            "differ by: a surrogate inside it cannot be told from the truth with so many states.",
        ),
        ("spectra.png", figures.spectra(evaluation), "Energy spectra at four lead times."),
        (
            "invariants.png",
            figures.invariants(evaluation),
            "Drift of the invariants, relative to their size.",
        ),
        (
            "growth.png",
            figures.growth(evaluation),
            "How errors grow along true states, for each surrogate and for the solver that it imitates. The worst and the "
            "mean growth in one step; the growth of errors of each wavenumber; the largest eigenvalue beside the worst "
            "growth, which for steps that are not normal is larger; Lyapunov exponents with twice their standard error.",
        ),
        (
            "sensitivity.png",
            figures.sensitivity(evaluation, domain),
            "Where one step enlarges errors, estimated with a few random probes (ripples are their noise), and the "
            "disturbance that it enlarges most.",
        ),
        (
            "costs.png",
            figures.costs(evaluation),
            "Error against cost, measured in one process at one batch size.",
        ),
    ]
    for label in evaluation.pictures:
        for channel, name in enumerate(names[: 1 if isinstance(domain, Point) else 3]):
            shown = name if len(names) > 1 and not isinstance(domain, Point) else ""
            out.append(
                (
                    f"{label}{'-' + name if shown else ''}.png",
                    figures.trajectory_picture(evaluation, label, domain, channel, shown),
                    f"Truth, prediction and error: the {label} trajectory by the first surrogate's mean error"
                    f"{', ' + name if shown else ''}.",
                )
            )
    return [(name, figure, caption) for name, figure, caption in out if figure is not None]


def write_rollout_report(
    folder: Path,
    *,
    domain: Domain,
    title: str,
    lead: str = "",
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    references: Mapping[str, Mapping[int, float]] | None = None,
) -> Path:
    """Write `report.html` and `figures/*.png` into a run folder from its stored evaluation.

    Args:
        folder: the run folder with `evaluation.npz`.
        domain: where the pictures' points lie.
        title: the study's title; `lead` a sentence below it.
        settings: the resolved configuration, shown folded.
        provenance: versions, seeds, machine, wall times.
        dataset: a few facts of the dataset, name -> text.
        references: published errors to hold ours against, contestant -> lead step -> nRMSE.

    Raises:
        UserError: the folder has no evaluation.
    """
    evaluation = load(folder)
    numbers = summary(evaluation)
    page = Page(title, lead)
    page.heading("Verdict")
    for verdict in numbers["verdicts"]:
        page.findings(verdict["surrogate"], [(f["sentence"], f["good"]) for f in verdict["findings"]])
    if not numbers["verdicts"]:
        page.text("No verdict: no surrogate took part.")
    drawn = {name: (figure, caption) for name, figure, caption in pictures(evaluation, domain)}
    store = folder / "figures"
    store.mkdir(exist_ok=True)

    def show(names: Sequence[str]) -> None:
        for name in names:
            if name in drawn:
                figure, caption = drawn.pop(name)
                data = png(figure)
                (store / name).write_bytes(data)
                page.picture(data, caption)

    show(["survival.png", "climate.png", "growth.png", "sensitivity.png"])
    page.heading("What was run")
    facts = {
        "trajectories": str(numbers["samples"]),
        "rollout": f"{evaluation.steps:,} steps of {number(evaluation.dt)}",
        "truth": _truth(evaluation),
        "sampled": evaluation.sampling,
        **_expense(evaluation),
        "training horizon": f"{evaluation.trained_steps} steps",
        **({str(k): str(v) for k, v in dataset.items()} if dataset else {}),
    }
    page.table(["", ""], [[k, v] for k, v in facts.items()])
    page.heading("Table")
    page.table(*table_of(numbers))
    page.text(
        "Medians over trajectories, with several seeds their median over seeds; in brackets the 95 % bootstrap interval "
        "over initial states and seeds. nRMSE is the norm of the error over the norm of the truth. The correlation time "
        f"is when the Pearson correlation first falls below {numbers['correlation_threshold']}. A trajectory has blown up "
        "once it is not finite or ten times larger than the truth ever is. CPU time is that of the whole process, all "
        "contestants in one process."
    )
    for stored in sorted((folder / "tests").glob("*/summary.json")):
        page.heading(f"On other data: {stored.parent.name}")
        other = read_json(stored)
        for verdict in other["verdicts"]:
            page.findings(verdict["surrogate"], [(f["sentence"], f["good"]) for f in verdict["findings"]])
        page.table(*table_of(other))
    if references:
        page.heading("Against published numbers")
        name, figure, caption = _published(page, evaluation, references)
        drawn[name] = figure, caption
        show([name])
    page.heading("Pictures")
    show(list(drawn))
    page.heading("Settings and provenance")
    if settings is not None:
        page.folded("resolved configuration", yaml_block(settings))
    if provenance is not None:
        page.folded("provenance", yaml_block(provenance))
    return write(page, folder / "report.html")


def _expense(evaluation: Evaluation) -> dict[str, str]:
    """What the rollouts took, in words."""
    found = {}
    sizes = [f"{size / 2**20:.0f} MiB after step {k:,}" for k, size in evaluation.expense.memory.items()]
    if sizes:
        found["resident memory"] = ", ".join(sizes)
    if evaluation.expense.overhead is not None:
        found["surrogates with all measuring"] = f"{evaluation.expense.overhead:.2f} times their bare calls"
    return found


def _truth(evaluation: Evaluation) -> str:
    """Where the truth comes from, in words."""
    if evaluation.known <= evaluation.stored:
        if evaluation.known < evaluation.steps:
            return f"stored, to step {evaluation.known:,}; beyond it nobody knows"
        return "stored"
    return f"stored to step {evaluation.stored:,}, then the data's own solver goes on"


def _published(
    page: Page, evaluation: Evaluation, references: Mapping[str, Mapping[int, float]]
) -> tuple[str, Figure, str]:
    """Add the table of own against published errors and give its picture."""
    table: dict[str, dict[int, tuple[float, float]]] = {}
    rows = []
    groups = evaluation.groups()
    for name, values in references.items():
        if name not in groups:
            continue
        for step, printed in values.items():
            row = evaluation.place(int(step))
            own = sorted(float(s.values["nrmse"][row].mean()) for s in groups[name])
            middle = own[len(own) // 2]
            table.setdefault(name, {})[int(step)] = (middle, float(printed))
            rows.append(
                [name, str(step), number(middle), number(float(printed)), f"{middle / float(printed):.2f}"]
            )
    if not table:
        raise UserError(
            f"the study gives published numbers for {sorted(references)}, but ran {sorted(groups)}; name them alike."
        )
    page.table(["", "rollout step", "here (median over seeds of the mean)", "published", "ratio"], rows)
    return (
        "published.png",
        figures.published(table),
        "Own errors beside the published ones; the band is a factor two.",
    )


def compare(folders: Sequence[Path], out: Path) -> Path:
    """One page with the tables and error curves of several runs side by side.

    Raises:
        UserError: a folder has no evaluation.
    """
    page = Page("Runs side by side", ", ".join(folder.name for folder in folders))
    for folder in folders:
        evaluation = load(folder)
        numbers = summary(evaluation)
        page.heading(folder.name)
        for verdict in numbers["verdicts"]:
            page.findings(verdict["surrogate"], [(f["sentence"], f["good"]) for f in verdict["findings"]])
        page.table(*table_of(numbers))
        page.picture(
            png(figures.error_against_lead_time(evaluation)), f"Error against lead time, {folder.name}."
        )
    return write(page, out)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder, empty where it does not exist."""
    return json.loads(path.read_text()) if path.exists() else {}
