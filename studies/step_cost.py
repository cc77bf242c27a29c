"""The cost of a metaplastic step: the rows of benchmarks/optimizer_step.py as a table."""

from pathlib import Path

from models.publishing.markdown import table
from studies.groups import STRENGTHS
from studies.results import read_rows
from studies.summary import UNMEASURED


def step_cost(results: Path) -> list[str]:
    """Return the sections with the results of the last run of benchmarks/optimizer_step.py."""
    rows = read_rows(results / "optimizer-step.csv")
    if not rows:
        return [f"{UNMEASURED} `python -m benchmarks.optimizer_step`"]
    header = ("backend", "network", "optimizer", "baseline step, ms", *STRENGTHS)
    baseline = {(r["backend"], r["architecture"], r["optimizer"]): r["plain_ms"] for r in rows}
    body = []
    for key, milliseconds in baseline.items():
        ratios = {
            r["rule"]: f"{float(r['ratio']):.3f} ({float(r['low']):.3f} - {float(r['high']):.3f})"
            for r in rows
            if (r["backend"], r["architecture"], r["optimizer"]) == key
        }
        body.append([*key, milliseconds, *(ratios.get(rule, "") for rule in STRENGTHS)])
    steps, hardware = (sorted({row[name] for row in rows}) for name in ("steps", "hardware"))
    return [
        "The duration of a training step with each rule, divided by that of the baseline: the "
        f"median and the quartiles of {' or '.join(steps)} steps of each, which take turns. "
        "`python -m benchmarks.optimizer_step` measures it.",
        table(header, body),
        f"Hardware: {'; '.join(hardware)}.",
    ]
