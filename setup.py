"""Build script: metadata is in pyproject.toml; this adds the C code (csrc/) as the extension topocomm.rma._core."""

from setuptools import setup

setup(
    cffi_modules=["csrc/python/build_cffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
