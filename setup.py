"""Build script: metadata is in pyproject.toml; the C core (csrc/) is added here when it is built."""

from setuptools import setup

setup()
