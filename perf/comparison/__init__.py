"""The parts of perf/compare: who is compared, by what load, in which cells, and how it is told."""
