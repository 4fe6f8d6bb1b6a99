"""Whatever the text: a reader gives a placement that makes a topology, or raises TopologyError."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sites_formats import SAMPLES
from test_sites_slurm import DOTTED, PATTERN, SHOWN, SHOWN_BLOCKS, YAML

from topocomm import Topology, TopologyError
from topocomm.topology import dumps_nodes, parse_placement
from topocomm.topology.sites import FORMATS, SiteOptions, names, parse_site, tables

PIECES = ["\n", "\t", " ", "=", "'", "\\\n", "\ufeff", "Include x", "slots=2",
          ",", "[", "]", "-", "0", "9" * 12, "<", ">", '"', "#", "\\", "x", "Nodes=", ":", ".",
          "\0", "٣", "é", "\r", "\u2028"]  # fmt: skip
TEXTS = [*SAMPLES.values(), SHOWN, SHOWN_BLOCKS, DOTTED.format(1, "n1") + PATTERN + "SLURMD_NODENAME=n1", YAML]
TEXTS += ["Include other.conf\n", "10.0.0.1 nid1 x1c0s0b0n0\nx1c0s0b0n1 slots=4\n", "r1n1 slots=4\nr1n2:2\nr2n[1-4]\n"]
READERS = [*SAMPLES, "pattern", None]


@st.composite
def damaged(draw):
    """A good sample with pieces cut out, doubled and put in."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        a, b = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        text = draw(st.sampled_from([
            text[:a] + text[b:], text[:b] + text[a:], text[:a] + draw(st.sampled_from(PIECES)) + text[a:]
        ]))  # fmt: skip
    return text


def check(text, format):
    options = SiteOptions(pattern=r"(?P<rack>\w)(?P<x>.).*" if format == "pattern" else None)
    refused = ""
    try:
        placement = parse_site(text, "file", format, options)
    except TopologyError as e:
        refused = str(e)
    if refused:
        assert refused.startswith("file: ")
    elif placement.nodes is None:
        Topology(placement.levels, placement.ranks)
    else:
        placement.topology(list(placement.nodes))
        assert parse_placement(dumps_nodes(placement)).nodes == placement.nodes


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=120, deadline=None)
@given(text=damaged())
def test_damaged_samples(format, text):
    check(text, format)


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_text(format, text):
    check(text, format)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=20))
def test_any_pattern_and_host_format(pattern, form):
    with contextlib.suppress(TopologyError):
        names.place_by_pattern(["r1n1"], pattern)
    with contextlib.suppress(TopologyError):
        tables.parse_nodes(SAMPLES["node_table"], host=form)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_list_of_jobs(text):
    for jobs in (text, f"# job\tnodes\tnode_ids\n{text}"):
        with contextlib.suppress(TopologyError):
            tables.parse_jobs(jobs)


def test_every_format_is_fuzzed():
    assert {*SAMPLES, "pattern"} == set(FORMATS)
