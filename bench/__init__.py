"""Benchmarks, studies and the emulated cluster: run as modules from the root of a checkout, not installed."""
