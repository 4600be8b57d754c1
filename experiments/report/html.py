"""A report in one self-contained HTML file: what was run, the verdict, the table, the pictures."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe3e8;--paper:#fff;--wash:#f5f7f9;--accent:#0072b2}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--ink);background:var(--wash);margin:0}
main{max-width:1120px;margin:0 auto;padding:28px 32px 64px;background:var(--paper)}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 10px;border-bottom:1px solid var(--line);padding-bottom:4px}
p.lead{color:var(--soft);margin:0 0 18px}
table{border-collapse:collapse;font-size:13.5px;margin:10px 0;display:block;overflow-x:auto}
th,td{padding:5px 11px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
tr.surrogate td:first-child{font-weight:650;color:var(--accent)}td small{color:var(--soft)}
figure{margin:16px 0}figure img{max-width:100%;border:1px solid var(--line)}
figcaption{font-size:13px;color:var(--soft);margin-top:4px}
.verdict{background:#eef5fa;border-left:4px solid var(--accent);padding:10px 16px;margin:8px 0}
.verdict.lost{background:#fdf1ea;border-color:#d55e00}
.findings{background:#f4f8fb;border-left:4px solid var(--accent);padding:8px 16px;margin:12px 0}
.findings h3{margin:2px 0 6px;font-size:16px}.findings ul{list-style:none;margin:0;padding:0}
.findings li{padding:4px 0 4px 24px;position:relative}.findings li b{position:absolute;left:2px;font-size:17px}
.findings .yes b{color:#00795a}.findings .no b{color:#c04a00}.findings .so b{color:var(--soft)}
pre{background:var(--wash);padding:12px;overflow:auto;font-size:12.5px;max-height:420px}
details summary{cursor:pointer;color:var(--soft)}
"""


@dataclass
class Page:
    """The pieces of a report in the order in which they are added."""

    title: str
    lead: str = ""
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section title."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph of plain text."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def verdict(self, text: str, won: bool) -> None:
        """A sentence in a box, blue where the surrogate won."""
        self.parts.append(f'<div class="verdict{"" if won else " lost"}">{html.escape(text)}</div>')

    def findings(self, name: str, sentences: Sequence[tuple[str, bool | None]]) -> None:
        """A box with a name and a list of sentences, each marked by whether it speaks for what is named."""
        marks = {True: ("yes", "+"), False: ("no", "−"), None: ("so", "·")}
        rows = "".join(
            f'<li class="{marks[good][0]}"><b>{marks[good][1]}</b>{html.escape(text)}</li>'
            for text, good in sentences
        )
        self.parts.append(f'<div class="findings"><h3>{html.escape(name)}</h3><ul>{rows}</ul></div>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()) -> None:
        """A table of texts; `kinds` gives each row a style class."""
        out = [
            "<table><thead><tr>",
            *(f"<th>{html.escape(cell)}</th>" for cell in head),
            "</tr></thead><tbody>",
        ]
        for index, row in enumerate(rows):
            kind = f' class="{html.escape(kinds[index])}"' if kinds else ""
            out += [f"<tr{kind}>", *(f"<td>{html.escape(cell)}</td>" for cell in row), "</tr>"]
        self.parts.append("".join([*out, "</tbody></table>"]))

    def picture(self, png: bytes, caption: str) -> None:
        """A PNG picture, embedded."""
        data = base64.b64encode(png).decode()
        self.parts.append(
            f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def folded(self, title: str, text: str) -> None:
        """A long text behind a title."""
        self.parts.append(
            f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
        )

    def render(self) -> str:
        """The whole file."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>"
            f'<h1>{html.escape(self.title)}</h1><p class="lead">{html.escape(self.lead)}</p>'
            + "\n".join(self.parts)
            + "</main></body></html>\n"
        )


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG bytes; the figure is closed."""
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    plt.close(figure)
    return stream.getvalue()


def yaml_block(value: Any) -> str:
    """Settings as YAML text."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True)


def write(page: Page, path: Path) -> Path:
    """Write the page under its final name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(page.render(), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
