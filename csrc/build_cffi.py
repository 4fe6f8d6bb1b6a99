"""Describes the extension module ``topocomm.rma._core`` to cffi: the C core, behind the same header C callers read.

libfabric is used when its headers are found. ``TOPOCOMM_LIBFABRIC=0`` builds without it, ``=1`` insists on it.
"""

import os
import re
import subprocess
from pathlib import Path

import cffi

HERE = Path(__file__ if "__file__" in globals() else "csrc/build_cffi.py").resolve().parent
CALLBACKS = """
extern "Python" int topocomm_send(void *user, uint32_t peer, const void *data, size_t bytes);
extern "Python" int topocomm_poll(void *user);
"""


def declarations(header: str) -> str:
    """The header without the lines only a preprocessor understands."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    directives = r"#(include|ifndef|endif|define TOPOCOMM_H)"
    return "\n".join(line for line in text.splitlines() if not re.match(directives, line))


def libfabric_flags() -> list[str] | None:
    """Compiler arguments for libfabric's headers, or None to build without it; the library is opened at run time."""
    wish = os.environ.get("TOPOCOMM_LIBFABRIC", "")
    if wish == "0":
        return None
    try:
        command = ["pkg-config", "--cflags", "libfabric"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        if Path("/usr/include/rdma/fabric.h").exists():
            return []
        if wish == "1":
            message = "TOPOCOMM_LIBFABRIC=1, but neither pkg-config nor /usr/include knows libfabric"
            raise RuntimeError(message) from None
        return None


def sources(libfabric: bool) -> list[str]:
    """The core's C files, with libfabric's part or with what stands in for it."""
    part = {path.name for path in HERE.glob("ofi_*.c")}
    left_out = {"ofi_absent.c"} if libfabric else part - {"ofi_absent.c"}
    return sorted(path.name for path in HERE.glob("*.c") if path.name not in left_out)


def builder() -> cffi.FFI:
    """The cffi builder; files are named relative to the project's root, as setuptools wants them."""
    ffi = cffi.FFI()
    ffi.cdef(declarations((HERE / "topocomm.h").read_text()) + CALLBACKS)
    flags = libfabric_flags()
    ffi.set_source(
        "topocomm.rma._core",
        '#include "topocomm.h"\n',
        sources=[f"csrc/{name}" for name in sources(flags is not None)],
        include_dirs=["csrc"],
        # hidden: a name seen outside could be taken over by any library that was loaded RTLD_GLOBAL before
        extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", *(flags or [])],
        extra_link_args=["-pthread"],
        py_limited_api=True,
    )
    return ffi


ffibuilder = builder()
