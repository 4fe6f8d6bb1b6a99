"""Benchmarks of notified RMA."""
