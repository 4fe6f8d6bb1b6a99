"""The transports and NICs with the properties that the C core finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topocomm.rma._lib import check, ffi, lib
from topocomm.rma.opening import Opening

__all__ = ["Capability", "offered", "why_absent"]


@dataclass(frozen=True)
class Capability:
    """One transport, or one NIC of it.

    ``notify_bits``: of immediate data; ``value_bits``: of those, left for the value of an identified notification;
    ``native``: notified by the medium itself, not by messages; ``auto_progress``: the target need not call in;
    ``ordered``: the medium promises order (never relied upon); ``max_message`` in bytes.
    """

    transport: str
    provider: str
    nic: str
    present: bool
    notify_bits: int
    value_bits: int
    native: bool
    auto_progress: bool
    ordered: bool
    max_message: int
    note: str


def why_absent(handle: Any, settings: Opening) -> str:
    """Say why a context opened with ``settings``, or not opened (NULL), has no libfabric; empty if it has."""
    options = settings.options
    probe = ffi.new("tc_options *", options[0])
    probe.transports, probe.progress_thread = lib.TC_SHM | lib.TC_OFI, 0
    opened = ffi.new("tc_context **", handle)
    if not handle:
        check(lib.tc_context_open(probe, opened), "looking for libfabric")
    try:
        return "; ".join(c.note for c in offered(opened[0]) if c.transport == "ofi" and not c.present)
    finally:
        if not handle:
            lib.tc_context_close(opened[0])


def offered(handle: Any) -> list[Capability]:
    """List what the transports of an open context offer; absent ones say why."""
    room, count = ffi.new("tc_capability[]", 3 + lib.TC_MAX_RAILS), ffi.new("uint32_t *")
    check(lib.tc_capabilities(handle, room, 3 + lib.TC_MAX_RAILS, count), "capabilities")
    return [_read(entry) for entry in room[0 : count[0]]]


def _read(c: object) -> Capability:
    def word(name: str) -> str:
        return str(ffi.string(getattr(c, name)).decode())

    def flag(name: str) -> bool:
        return bool(getattr(c, name))

    def number(name: str) -> int:
        return int(getattr(c, name))

    return Capability(
        word("transport"), word("provider"), word("nic"), flag("present"), number("notify_bits"), number("value_bits"),
        flag("native"), flag("auto_progress"), flag("ordered"), number("max_message"), word("note"),
    )  # fmt: skip
