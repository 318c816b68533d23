"""Benchmarks: `bench/run` measures them against their floors and keeps the tables in docs/benchmarks.md."""
