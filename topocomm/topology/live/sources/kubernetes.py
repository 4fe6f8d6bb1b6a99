"""The place of a node of a Kubernetes cluster by its labels, handed down in ``TOPOCOMM_LABELS``.

    TOPOCOMM_LABELS=topology.kubernetes.io/zone=eu-1a,cloud.google.com/gce-topology-block=b7

A container does not see its node's labels by itself; a pod's manifest or whoever starts the job hands them down, as
``kubectl get nodes --show-labels`` prints them (between commas) or as files of the downward API hold them (a line each,
values in quotes). Labels that say nothing of places are read over. All nodes need the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, as_label

__all__ = ["KUBERNETES", "VARIABLE"]

VARIABLE = "TOPOCOMM_LABELS"
_AWS, _GCP, _NVIDIA = "topology.k8s.aws", "cloud.google.com", "network.topology.nvidia.com"
_OCI = "oci.oraclecloud.com"
_LEVELS = {
    "topology.kubernetes.io/region": "region",
    "failure-domain.beta.kubernetes.io/region": "region",
    "topology.kubernetes.io/zone": "zone",
    "failure-domain.beta.kubernetes.io/zone": "zone",
    f"{_OCI}/rdma.hpc_island_id": "island",
    f"{_OCI}/rdma.network_block_id": "network_block",
    f"{_OCI}/rdma.local_block_id": "local_block",
    f"{_GCP}/gce-topology-block": "block",
    f"{_GCP}/gce-topology-subblock": "subblock",
    f"{_GCP}/gce-topology-host": "host",
    **{f"{_AWS}/network-node-layer-{k}": f"layer{k}" for k in range(1, 5)},
    **{f"{_NVIDIA}/tier-{k}": f"tier{k}" for k in range(9, -1, -1)},
    f"{_NVIDIA}/datacenter": "core_switch",
    f"{_NVIDIA}/core": "core_switch",
    f"{_NVIDIA}/spine": "spine",
    f"{_NVIDIA}/block": "leaf",
    f"{_NVIDIA}/leaf": "leaf",
    f"{_NVIDIA}/accelerator": "accelerator",
}
"""Key → level, outermost first. Sources: kubernetes.io "Well-Known Labels"; the clouds' and NVIDIA Topograph's own."""
_PAIR = re.compile(r'([A-Za-z0-9_./-]+)=(?:"([^"]*)"|([^\s,"]*))')
_MOST_PAIRS = 512


def _ask(host: Host) -> str:
    """The labels that name places, so that nobody sends the others around."""
    found: dict[str, str] = {}
    for number, match in enumerate(_PAIR.finditer(host.environment.get(VARIABLE, ""))):
        if number >= _MOST_PAIRS:
            raise TopologyError(f"{VARIABLE} has more than {_MOST_PAIRS} labels")
        if match[1] in _LEVELS:
            found.setdefault(_LEVELS[match[1]], match[2] or match[3] or "")
    order = dict.fromkeys(_LEVELS.values())
    return "\n".join(f"{level}={as_label(found[level])}" for level in order if level in found)


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    all_answered(nodes, f"no label of {VARIABLE} names a place")
    levels: dict[tuple[str, ...], Node] = {}
    rows = []
    for node in nodes:
        pairs = [line.partition("=") for line in node.answer.split("\n")]
        levels.setdefault(tuple(level for level, _, _ in pairs), node)
        rows.append(tuple(label for _, _, label in pairs))
    if len(levels) > 1:
        (a, at_a), (b, at_b), *_ = levels.items()
        raise TopologyError(f"{VARIABLE} names {', '.join(a)} on {at_a}, {', '.join(b)} on {at_b}")
    return Placed(next(iter(levels)), rows, VARIABLE)


KUBERNETES = Source(f"Kubernetes: labels of nodes, handed down in {VARIABLE}", _ask, _place, by_process=True)
