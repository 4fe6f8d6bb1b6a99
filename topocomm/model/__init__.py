"""Models: what a schedule costs on a machine, and what no schedule can do better. Knows no MPI."""

from topocomm.algorithms import transfers
from topocomm.model.bounds import bytes_across, bytes_between
from topocomm.model.machine import Level, Machine, default_machine
from topocomm.model.machine_files import dumps_machine, parse_machine, read_machine
from topocomm.model.network import Network
from topocomm.model.optimum import Optimum, time_bound
from topocomm.model.time import Loads, link_loads, schedule_time
from topocomm.model.traffic import Traffic, list_messages
from topocomm.schedule.transfers import Messages, Transfers, list_transfers

__all__ = [
    "Level",
    "Loads",
    "Machine",
    "Messages",
    "Network",
    "Optimum",
    "Traffic",
    "Transfers",
    "bytes_across",
    "bytes_between",
    "default_machine",
    "dumps_machine",
    "link_loads",
    "list_messages",
    "list_transfers",
    "parse_machine",
    "read_machine",
    "schedule_time",
    "time_bound",
    "transfers",
]
