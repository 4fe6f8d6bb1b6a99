"""Build script: metadata is in pyproject.toml; this adds the C code (csrc/).

The extension topocomm.rma._core is all that knows no Python; topocomm.comm._recogniser answers known calls.
"""

from setuptools import Extension, setup

RECOGNISER = Extension(
    "topocomm.comm._recogniser",
    sources=[
        f"csrc/python/{name}.c"
        for name in ("arguments", "memo", "objects", "recogniser", "request", "starting", "values")
    ],
    depends=["csrc/python/memo.h", "csrc/python/objects.h"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden"],
    py_limited_api=True,
)

setup(
    cffi_modules=["csrc/python/build_cffi.py:ffibuilder"],
    ext_modules=[RECOGNISER],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
