"""The rules of `perf/budgets`, with figures that are made up."""

from __future__ import annotations

import counting
import pytest

PROFILE = """
fl=(1) a.rs
fn=(1) serve
16 100
cfn=(2) malloc
calls=3 0
16 90
cfn=(3) realloc
calls=2 0
17 10
fn=(3)
1 5
cfn=(2)
calls=2 0
1 20
fn=(4) helper'2
cfn=(2)
calls=1 0
1 5
cfn=(5) free
calls=9 0
1 5
totals: 230
"""

TABLE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.001200          12       100           sendto
 40.00    0.000800           8       164        64 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.002000                   264        64 total
"""


@pytest.mark.parametrize(
    "unit, budget, measured, is_within, word",
    [
        ("instructions", 50_000, 50_999, True, "budget"),
        ("instructions", 50_000, 51_001, False, "ABOVE"),
        ("instructions", 50_000, 48_999, True, "lowered"),
        ("allocations", 20, 20, True, "budget"),
        ("allocations", 20, 21, False, "ABOVE"),
        ("allocations", 20, 19, True, "lowered"),
        ("calls", 6, 6.3, True, "budget"),
        ("calls", 6, 7, False, "ABOVE"),
        ("calls", 6, 5, True, "lowered"),
        ("calls", 2000, 2030, True, "budget"),
        ("calls", 2000, 2050, False, "ABOVE"),
        ("allocations", None, 1, False, "no budget"),
    ],
)
def test_a_figure_is_above_its_budget_or_not(unit, budget, measured, is_within, word):
    verdict = counting.judge("get-4k", unit, budget, measured)
    assert (verdict.is_within, word in verdict.text) == (is_within, True), verdict


def test_allocations_are_counted_from_outside_of_the_allocator():
    assert counting.callgrind(PROFILE) == (230, 3 + 2 + 1)


def test_another_allocator_is_noticed():
    with pytest.raises(ValueError):
        counting.callgrind(PROFILE.replace("malloc", "mi_malloc").replace("realloc", "mi_realloc"))


def test_calls_are_read_with_and_without_errors():
    assert counting.strace(TABLE) == {"sendto": 100, "recvfrom": 164}
    with pytest.raises(ValueError):
        counting.strace("strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted")
