"""Describes the extension ``topocomm.rma._core`` to cffi: csrc/core and csrc/coll behind the headers C callers read.

libfabric is used when its headers are found. ``TOPOCOMM_LIBFABRIC=0`` builds without it, ``=1`` insists on it.
"""

import os
import re
import subprocess
from pathlib import Path

import cffi

CSRC = Path(__file__).resolve().parents[1]
FOLDERS = ("core", "core/transport", "coll")
PUBLIC = (
    "core/topocomm.h",
    "coll/coll.h",
    "coll/share.h",
    "coll/node.h",
    "coll/request.h",
)  # as far as they are there; a header after those that it needs
CALLBACKS = """
extern "Python" int topocomm_send(void *user, uint32_t peer, const void *data, size_t bytes);
extern "Python" int topocomm_poll(void *user);
"""


def declarations(header: str) -> str:
    """Return the header without the lines only a preprocessor understands."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    directives = r"#(include|ifndef|endif|define \w+_H$)"
    return "\n".join(line for line in text.splitlines() if not re.match(directives, line))


def libfabric_flags() -> list[str] | None:
    """Return the compiler arguments for libfabric's headers and its transport, or None to build without it.

    The library itself is opened at run time.
    """
    wish = os.environ.get("TOPOCOMM_LIBFABRIC", "")
    if wish == "0":
        return None
    try:
        command = ["pkg-config", "--cflags", "libfabric"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return ["-DTOPOCOMM_LIBFABRIC", *found]
    except (OSError, subprocess.CalledProcessError):
        if Path("/usr/include/rdma/fabric.h").exists():
            return ["-DTOPOCOMM_LIBFABRIC"]
        if wish == "1":
            message = "TOPOCOMM_LIBFABRIC=1, but neither pkg-config nor /usr/include knows libfabric"
            raise RuntimeError(message) from None
        return None


def headers() -> list[Path]:
    """Return the public headers that are there."""
    return [CSRC / name for name in PUBLIC if (CSRC / name).exists()]


def sources(libfabric: bool) -> list[Path]:
    """Return all C files, those of the transport over libfabric only with it."""
    files = [path for folder in FOLDERS for path in sorted((CSRC / folder).glob("*.c"))]
    return [path for path in files if libfabric or not path.name.startswith("ofi_")]


def builder() -> cffi.FFI:
    """Return the cffi builder; files are named relative to the project's root, as setuptools wants them."""
    ffi = cffi.FFI()
    ffi.cdef("\n".join(declarations(path.read_text()) for path in headers()) + CALLBACKS)
    flags = libfabric_flags()
    root = CSRC.parent
    ffi.set_source(
        "topocomm.rma._core",
        "".join(f'#include "{path.name}"\n' for path in headers()),
        sources=[str(path.relative_to(root)) for path in sources(flags is not None)],
        depends=[str(path.relative_to(root)) for path in sorted(CSRC.rglob("*.h"))],
        include_dirs=["csrc/core", "csrc/coll"],
        # hidden: a name seen outside could be taken over by any library that was loaded RTLD_GLOBAL before.
        # No -march: a wheel runs on every processor of its kind; a kernel asks for vector instructions by attributes.
        extra_compile_args=["-std=gnu11", "-O2", "-ffp-contract=off", "-fvisibility=hidden", *(flags or [])],
        extra_link_args=["-pthread"],
        py_limited_api=True,
    )
    return ffi


ffibuilder = builder()
