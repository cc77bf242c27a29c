"""What a metaplastic step costs: the rows of benchmarks/optimizer_step.py as a table."""

from pathlib import Path

from models.publishing.markdown import table
from studies.groups import STRENGTHS
from studies.results import read_rows
from studies.summary import UNMEASURED


def step_cost(results: Path) -> list[str]:
    """The table of benchmarks/optimizer_step.py's last run."""
    rows = read_rows(results / "optimizer-step.csv")
    if not rows:
        return [f"{UNMEASURED} `python -m benchmarks.optimizer_step`"]
    header = ("backend", "network", "optimizer", "plain step, ms", *STRENGTHS)
    plain = {(r["backend"], r["architecture"], r["optimizer"]): r["plain_ms"] for r in rows}
    body = []
    for key, milliseconds in plain.items():
        ratios = {
            r["rule"]: f"{float(r['ratio']):.3f} ({float(r['low']):.3f} - {float(r['high']):.3f})"
            for r in rows
            if (r["backend"], r["architecture"], r["optimizer"]) == key
        }
        body.append([*key, milliseconds, *(ratios.get(rule, "") for rule in STRENGTHS)])
    steps, machines = (sorted({row[name] for row in rows}) for name in ("steps", "machine"))
    return [
        "A training step with each rule, as a ratio to the plain step: medians of "
        f"{' or '.join(steps)} steps that take turns, and their quartiles. "
        "`python -m benchmarks.optimizer_step`",
        table(header, body),
        f"On {'; '.join(machines)}.",
    ]
