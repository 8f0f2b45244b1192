"""What is counted for `perf/budgets`, and when a count is too high: no I/O, so that each rule has a test."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Called by Rust's system allocator. The count is of these, from outside of them.
ALLOCATING = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"}

# What a figure may exceed its budget by: a part of it, and an absolute part. Instructions differ a little with the addresses
# and hash seeds of a run, allocations with nothing; of calls, some come with time (a sweep four times a second) and not with requests.
MARGINS = {"instructions": (0.02, 0), "allocations": (0.001, 0.5), "calls": (0.02, 0.25)}


@dataclass(frozen=True)
class Verdict:
    is_within: bool
    text: str


def judge(name: str, unit: str, budget: float | None, measured: float) -> Verdict:
    """Whether `measured` keeps to `budget`, and what to do about it."""
    if budget is None:
        return Verdict(False, f"{name} {unit}: {amount(measured)}, and no budget; record one with perf/budgets --record")
    part, absolute = MARGINS[unit]
    margin = budget * part + absolute
    line = f"{name} {unit}: {amount(measured)}, budget {amount(budget)}"
    if measured > budget + margin:
        return Verdict(False, f"{line} + {amount(margin)}: ABOVE IT by {amount(measured - budget)}")
    if measured < budget - margin:
        return Verdict(True, f"{line}: could be lowered, perf/budgets --record")
    return Verdict(True, line)


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}".rstrip("0").rstrip(".")


def callgrind(text: str) -> tuple[int, int]:
    """Instructions and allocations of a callgrind profile. Names are given once, then by number."""
    names: dict[str, str] = {}
    caller = callee = ""
    instructions = allocations = 0
    for line in text.splitlines():
        if found := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
            kind, number, name = found.groups()
            if name:
                # Recursion is marked by an apostrophe, a symbol's version by an @.
                names[number] = re.split(r"['@]", name)[0]
            if kind == "fn":
                caller = names.get(number, "")
            else:
                callee = names.get(number, "")
        elif line.startswith("calls="):
            if callee in ALLOCATING and caller not in ALLOCATING:
                allocations += int(line[len("calls=") :].split()[0])
        elif line.startswith(("summary:", "totals:")):
            instructions = int(line.split()[1])
    if not instructions or not allocations:
        raise ValueError("the profile has no instructions, or calls no allocator that is known here")
    return instructions, allocations


def strace(text: str) -> dict[str, int]:
    """Calls by name of a table of `strace -c`."""
    calls = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and re.fullmatch(r"[\d.]+", words[0]) and words[3].isdigit() and words[-1] != "total":
            calls[words[-1]] = calls.get(words[-1], 0) + int(words[3])
    if not calls:
        raise ValueError(f"no table of strace:\n{text[:500]}")
    return calls
