"""Tests of the benchmarks' own arithmetic and processes, at tiny sizes; nothing here asserts a time."""
