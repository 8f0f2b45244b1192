"""How it is told: verdicts, tables, plots, and all figures as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from comparison.cells import FIGURES, Cell, Most, Ratio
from comparison.contenders import Roster
from comparison.loads import CLIENT_SHARE_MAX, Figures

# Peak resident memory allowed beside buffers, and the default of --buffer-memory.
PEAK_KIB_MAX = (64 + 128) * 1024


@dataclass
class Run:
    """One subject in one round; `place` is its turn in the round."""

    round: int
    place: int
    subject: str
    contender: str | None
    figures: Figures


@dataclass
class Outcome:
    """All runs of a cell, and why some subjects have none."""

    name: str
    cell: Cell
    runs: list[Run]
    failures: dict[str, str]

    def subjects(self) -> list[str]:
        return list(dict.fromkeys(run.subject for run in self.runs))

    def values(self, subject: str, figure: str) -> dict[int, float]:
        """By round."""
        found = {run.round: run.figures.value(figure) for run in self.runs if run.subject == subject}
        return {number: value for number, value in found.items() if value is not None}

    def paired(self, ours: str, theirs: str, figure: str) -> list[float]:
        """Ratios within rounds."""
        left, right = self.values(ours, figure), self.values(theirs, figure)
        return [left[number] / right[number] for number in sorted(left) if right.get(number)]


@dataclass
class Verdict:
    cell: str
    build: str
    bar: str
    measured: str
    met: bool | None

    def mark(self) -> str:
        return {True: "yes", False: "**no**", None: "not measured"}[self.met]


def verdicts(outcome: Outcome, builds: list[str]) -> list[Verdict]:
    return [judge(outcome, bar, build) for build in builds for bar in outcome.cell.bars]


def judge(outcome: Outcome, bar: Ratio | Most, build: str) -> Verdict:
    figure = bar.figure or outcome.cell.figure
    if isinstance(bar, Ratio):
        found = outcome.paired(build, bar.to.format(build), figure)
    else:
        found = list(outcome.values(build, figure).values())
    if not found:
        return Verdict(outcome.name, build, outcome.cell.describe(bar), "", None)
    middle = statistics.median(found)
    if isinstance(bar, Most):
        met = middle <= bar.value
    else:
        met = middle <= bar.most if bar.most is not None else middle >= bar.least
    return Verdict(outcome.name, build, outcome.cell.describe(bar), spread(found), met)


def peak_verdicts(outcomes: list[Outcome], roster: Roster) -> list[Verdict]:
    """The peak of one process over all cells; two processes beside each other are left out."""
    found = []
    for build in roster.builds:
        peaks = [(run.figures.peak_kib, outcome.name) for outcome in outcomes for run in outcome.runs if run.subject == build]
        if peaks:
            kib, cell = max(peaks)
            found.append(Verdict("all", build, "peak ≤ 64 MiB + buffer memory", f"{kib / 1024:.0f} MiB ({cell})", kib <= PEAK_KIB_MAX))
    return found


def short(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(values: list[float]) -> str:
    middle = short(statistics.median(values))
    return f"{middle} ({short(min(values))}–{short(max(values))})" if len(values) > 1 else middle


def verdict_table(found: list[Verdict], many_builds: bool) -> str:
    names = ["cell", *(["build"] if many_builds else []), "bar", "measured: median (least–greatest)", "met"]
    rows = [[v.cell, *([v.build] if many_builds else []), v.bar, v.measured, v.mark()] for v in found]
    return markdown(names, rows)


def pair_table(outcomes: list[Outcome], builds: list[str]) -> str:
    """Every other build against the first, within rounds."""
    first, rows = builds[0], []
    for outcome in outcomes:
        for build in builds[1:]:
            found = outcome.paired(build, first, outcome.cell.figure)
            if found:
                rows.append([outcome.name, FIGURES[outcome.cell.figure].name, f"{build} ÷ {first}", spread(found)])
    return markdown(["cell", "figure", "builds", "median (least–greatest)"], rows)


def cell_table(outcome: Outcome, roster: Roster) -> str:
    figure = FIGURES[outcome.cell.figure]
    names = ["subject", "durability", "ETag", f"{figure.name} {figure.unit}".strip(), "s/1000 requests", "s/GiB"]
    names += ["requests/s", "MiB/s", "p50 ms", "p99 ms", "p99.9 ms", "peak MiB", "client core"]
    rows = [subject_row(outcome, subject, roster) for subject in outcome.subjects()]
    text = f"### {outcome.name}: {outcome.cell.about}\n\n{markdown(names, rows)}"
    control = outcome.values("nginx", outcome.cell.figure)
    if len(control) > 1:
        middle = statistics.median(control.values())
        rounds = ", ".join(f"{(value / middle - 1) * 100:+.0f} %" for value in control.values())
        text += f"\n\nControl, by round: nginx is {rounds} off its median."
    for subject in outcome.subjects():
        detail = next((run.figures.detail for run in outcome.runs if run.subject == subject and run.figures.detail), None)
        if detail and outcome.cell.figure == "calls":
            largest = sorted(detail.items(), key=lambda pair: -pair[1])
            text += f"\n\n{subject}: {', '.join(f'{name} {count:.2f}' for name, count in largest if count >= 0.005)}."
    for subject, reason in outcome.failures.items():
        text += f"\n\nNot measured: {subject}: {reason}"
    return text


def subject_row(outcome: Outcome, subject: str, roster: Roster) -> list[str]:
    runs = [run for run in outcome.runs if run.subject == subject]
    contender = runs[0].contender
    kind = roster.kind(contender) if contender else None

    def middle(value) -> str:
        found = [value(run.figures) for run in runs if value(run.figures) is not None]
        return short(statistics.median(found)) if found else ""

    share = statistics.median(run.figures.client_share for run in runs)
    return [
        subject,
        kind.durability if kind else "",
        kind.etag if kind else "",
        spread(list(outcome.values(subject, outcome.cell.figure).values()) or [0]),
        middle(lambda of: of.cpu_us_per_request and of.cpu_us_per_request / 1000),
        middle(lambda of: of.cpu_s_per_gib),
        middle(lambda of: of.requests / of.seconds),
        middle(lambda of: of.mib_per_s),
        middle(lambda of: of.p50_ms),
        middle(lambda of: of.p99_ms),
        middle(lambda of: of.p999_ms),
        middle(lambda of: of.peak_kib / 1024 if of.peak_kib else None),
        f"{share:.0%}{' **the limit**' if share > CLIENT_SHARE_MAX else ''}",
    ]


def markdown(names: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def write(folder: Path, when: str, head: str, outcomes: list[Outcome], roster: Roster) -> str:
    """JSON, Markdown and plots; returns the text of the verdicts."""
    builds = list(roster.builds)
    found = [verdict for outcome in outcomes for verdict in verdicts(outcome, builds)] + peak_verdicts(outcomes, roster)
    summary = verdict_table(found, len(builds) > 1)
    if len(builds) > 1:
        summary += "\n\n" + pair_table(outcomes, builds)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{when}.json").write_text(json.dumps(as_json(when, head, outcomes, roster, found), indent=1) + "\n")
    kinds = {name: roster.kind(name) for name in roster.names}
    rows = [[name, kind.flags, kind.durability, kind.etag] for name, kind in kinds.items()]
    flags = markdown(["contender", "as", "durability", "ETag"], rows)
    plots = plot(folder, when, outcomes, builds)
    tables = "\n\n".join(cell_table(outcome, roster) for outcome in outcomes)
    left_out = "".join(f"\n\nLeft out: {name}: {reason}" for name, reason in roster.left_out.items())
    (folder / f"{when}.md").write_text(f"{head}\n\n{summary}\n\n{plots}{flags}{left_out}\n\n{tables}\n")
    return summary


def as_json(when: str, head: str, outcomes: list[Outcome], roster: Roster, found: list[Verdict]) -> dict:
    kinds = {name: roster.kind(name) for name in roster.names}
    contenders = {name: {"as": kind.flags, "durability": kind.durability, "etag": kind.etag} for name, kind in kinds.items()}
    cells = {
        outcome.name: {
            "about": outcome.cell.about,
            "figure": outcome.cell.figure,
            "runs": [{"round": run.round, "place": run.place, "subject": run.subject, **run.figures.as_json()} for run in outcome.runs],
            "failures": outcome.failures,
        }
        for outcome in outcomes
    }
    judged = [verdict.__dict__ for verdict in found]
    return {"when": when, "head": head, "contenders": contenders, "left_out": roster.left_out, "verdicts": judged, "cells": cells}


def plot(folder: Path, when: str, outcomes: list[Outcome], builds: list[str]) -> str:
    """A panel a cell: medians as bars, least and greatest as whiskers. Returns the line that shows it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = [outcome for outcome in outcomes if any(outcome.values(subject, outcome.cell.figure) for subject in outcome.subjects())]
    if not drawn:
        return ""
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 2.9 * rows), squeeze=False, layout="constrained")
    for panel in list(panels.flat)[len(drawn) :]:
        panel.set_axis_off()
    for panel, outcome in zip(panels.flat, drawn):
        draw(panel, outcome, builds)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"{when}.{suffix}", dpi=110, metadata={"Date": None} if suffix == "svg" else None)
    pyplot.close(figure)
    return f"![all cells]({when}.svg)\n\n"


def draw(panel, outcome: Outcome, builds: list[str]) -> None:
    figure = FIGURES[outcome.cell.figure]
    values = {subject: list(outcome.values(subject, outcome.cell.figure).values()) for subject in outcome.subjects()}
    values = {subject: found for subject, found in values.items() if found}
    middles = [statistics.median(found) for found in values.values()]
    whiskers = [
        [middle - min(found) for middle, found in zip(middles, values.values())],
        [max(found) - middle for middle, found in zip(middles, values.values())],
    ]
    colours = ["tab:blue" if subject.split(" ")[0] in builds else "tab:gray" for subject in values]
    panel.barh(list(values), middles, xerr=whiskers, color=colours, ecolor="black", capsize=3)
    panel.invert_yaxis()
    panel.set_title(outcome.cell.about, fontsize=8)
    panel.set_xlabel(f"{figure.name}, {figure.unit}" if figure.unit else figure.name, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.bar_label(panel.containers[-1], [f" {short(middle)}" for middle in middles], fontsize=7)
    panel.margins(x=0.15)
