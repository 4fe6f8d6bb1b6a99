"""Placement files: both forms, the published schema, and every malformed file refused with source and reason."""

import copy
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm import Topology, TopologyError
from topocomm.topology import dumps_placement, parse_placement, read_placement, read_site
from topocomm.topology.sites import parse_site

SCHEMA = json.loads((files("topocomm.topology") / "placement.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BY_RANK = {
    "format": "topocomm-placement",
    "version": 1,
    "comment": "two groups",
    "levels": ["group", "node"],
    "ranks": [["g0", "n0"], ["g0", 1], ["g1", "n0"]],
}
BY_NODE = {
    "format": "topocomm-placement",
    "version": 1,
    "levels": ["group"],
    "nodes": {"nid1": ["g0"], "nid2": ["g0"], "nid3.site.org": ["g1"]},
}
HOSTS = ["nid2", "nid1.site.org", "nid3.site.org", "nid2"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def parse(document) -> object:
    return parse_placement(json.dumps(document), "places.json")


def what_a_schema_cannot_say(document) -> bool:
    """Whether a document that fits the schema still contradicts itself."""
    width, levels = len(document["levels"]), document["levels"]
    rows = document["ranks"] if "ranks" in document else document["nodes"].values()
    return any(len(row) != width for row in rows) or ("nodes" in document and "node" in levels)


def check_agreement(document) -> None:
    """Schema and parser agree; a refusal names the file."""
    fits = VALIDATOR.is_valid(document) and not what_a_schema_cannot_say(document)
    if not fits:
        with pytest.raises(TopologyError, match=r"^places\.json: "):
            parse(document)
        return
    placement = parse(document)
    rows = document.get("ranks") or list(document["nodes"].values())
    found = placement.ranks or list(placement.nodes.values())
    assert [list(row) for row in found] == [[x if isinstance(x, str) else str(int(x)) for x in row] for row in rows]
    assert list(placement.levels) == document["levels"]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(topologies())
def test_by_rank_round_trip(topology):
    text = dumps_placement(topology)
    VALIDATOR.validate(json.loads(text))
    assert parse_placement(text).topology(["?"] * topology.size) == topology


def test_by_node_form_serves_any_job():
    topology = parse(BY_NODE).topology(HOSTS)
    assert topology == Topology(
        ("group", "node"), [["g0", "nid2"], ["g0", "nid1.site.org"], ["g1", "nid3.site.org"], ["g0", "nid2"]]
    )


def test_by_node_form_without_outer_levels():
    document = {**BY_NODE, "levels": [], "nodes": {"a.b": [], "c": []}}
    assert parse(document).topology(["a.b", "c", "a.b"]) == Topology(("node",), [["a.b"], ["c"], ["a.b"]])


def test_wrong_job_is_refused():
    with pytest.raises(TopologyError, match=r"places\.json places 3 ranks, but the communicator has 2"):
        parse(BY_RANK).topology(["a", "b"])
    with pytest.raises(TopologyError, match=r"places\.json does not place node 'nid9', on which rank 1 runs"):
        parse(BY_NODE).topology(["nid1", "nid9"])


def names(*keys, levels=("rack",)):
    return parse({**BY_NODE, "levels": list(levels), "nodes": {key: [f"r{k}"] for k, key in enumerate(keys)}})


@pytest.mark.parametrize(
    ("keys", "hosts", "rows"),
    [
        (("n1.a.org", "n2.a.org"), ["n2", "n1"], [["r1", "n2.a.org"], ["r0", "n1.a.org"]]),
        (("n1", "n2"), ["n2.a.org", "n1.a.org"], [["r1", "n2"], ["r0", "n1"]]),
        (("n1.a", "n2"), ["n1.a.org", "n2"], [["r0", "n1.a"], ["r1", "n2"]]),
        (("n1.a.org", "n1"), ["n1", "n1.a.org", "n1.b"], [["r1", "n1"], ["r0", "n1.a.org"], ["r1", "n1"]]),
        (("10.0.0.1", "10"), ["10.0.0.1", "10"], [["r0", "10.0.0.1"], ["r1", "10"]]),
    ],
)
def test_full_and_short_names(keys, hosts, rows):
    assert names(*keys).topology(hosts).labels.tolist() == rows


@pytest.mark.parametrize(
    ("keys", "host", "reason"),
    [
        (("n1.a.org", "n1.b.org"), "n1", "places 'n1.a.org' and 'n1.b.org', either of which may be node 'n1'"),
        (("n1.a.org",), "n1.b.org", "does not place node 'n1.b.org'"),
        (("n1",), "n11.a.org", "does not place node 'n11.a.org'"),
        (("10",), "10.0.0.1", "does not place node '10.0.0.1'"),
    ],
)
def test_names_that_may_be_another_node_are_refused(keys, host, reason):
    with pytest.raises(TopologyError, match=reason):
        names(*keys).topology([host])


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "mark"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(BY_NODE).encode())
    assert read_placement(path) == read_site(path) == parse_site(f"\ufeff{json.dumps(BY_NODE)}", str(path))


def test_places_are_strings_or_whole_numbers():
    assert parse(BY_RANK).ranks == (("g0", "n0"), ("g0", "1"), ("g1", "n0"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format":\n "topocomm-placement",\n "version" 1}', "line 3 column 12: not JSON"),
        ("", "line 1 column 1: not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
        ('{"levels": [], "levels": []}', "key 'levels' appears twice"),
        ('{"comment": NaN}', "NaN is not JSON"),
        ('{"comment": ' + "9" * 5000 + "}", "digits"),
        ("[]", "must be an object, found list"),
        ("{}", "'format' must be 'topocomm-placement', found None"),
        (json.dumps({**BY_RANK, "version": True}), "'version' must be 1, found True"),
        (json.dumps({**BY_RANK, "version": 2}), "'version' must be 1, found 2"),
        (json.dumps({**BY_RANK, "extra": 1}), r"unknown keys \['extra'\]"),
        (json.dumps({**BY_RANK, "nodes": {}}), "exactly one of 'ranks' and 'nodes'"),
        (json.dumps({**BY_RANK, "ranks": []}), "'ranks' must be a non-empty list"),
        (json.dumps({**BY_RANK, "ranks": [["g0", "n0"], ["g1"]]}), r"'ranks'\[1\] has 1 places, needs 2"),
        (json.dumps({**BY_RANK, "ranks": [["g0", ""]]}), r"'ranks'\[0\] holds ''"),
        (json.dumps({**BY_RANK, "ranks": [["g0", "a\0"]]}), r"'ranks'\[0\] holds 'a\\x00'"),
        (json.dumps({**BY_RANK, "levels": "group"}), "'levels' must be a list"),
        (json.dumps({**BY_RANK, "levels": ["group", "group"]}), "'levels' names a level twice"),
        (json.dumps({**BY_NODE, "nodes": {"nid1": ["g0"], "nid2": None}}), r"'nodes'\['nid2'\] must be a list"),
        (json.dumps({**BY_NODE, "levels": ["node"]}), "must leave out 'node'"),
    ],
)
def test_malformed_text_is_refused_with_line_or_key(text, reason):
    with pytest.raises(TopologyError, match=reason) as e:
        parse_placement(text, "places.json")
    assert str(e.value).startswith("places.json: ")


def test_unreadable_files(tmp_path: Path):
    for path, reason in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path, "cannot be read"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(TopologyError, match=reason):
            read_placement(path)
    (tmp_path / "latin").write_bytes(b'{"format": "\xe9"}')
    with pytest.raises(TopologyError, match="latin: not UTF-8 text: byte 12"):
        read_placement(tmp_path / "latin")
    (tmp_path / "good").write_text(json.dumps(BY_NODE), encoding="utf-8")
    assert read_placement(tmp_path / "good").topology(HOSTS).size == 4


@given(st.text(max_size=60) | json_values.map(json.dumps))
def test_any_text_is_refused_as_such(text):
    with pytest.raises(TopologyError, match=r"^places\.json: "):
        parse_placement(text, "places.json")


def positions(value, path=()):
    """All paths to values inside a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from positions(inner, (*path, key))


def replaced(document, path, value):
    out = copy.deepcopy(document)
    if not path:
        return value
    at = out
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return out


@given(st.sampled_from((BY_RANK, BY_NODE)), st.data())
def test_mutated_documents(document, data):
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(positions(document))))
        value = data.draw(
            json_values | st.sampled_from(["node", "group", "", "a\0", 1, 1.0, [], {}, ["g0"], ["g0", 3.0]])
        )
        document = replaced(document, path, value)
        if not isinstance(document, (dict, list)):
            break
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        with pytest.raises(TopologyError, match="is not JSON"):
            parse(document)
        return
    check_agreement(document)


@given(st.sampled_from((BY_RANK, BY_NODE)), st.data())
def test_dropped_and_added_keys(document, data):
    document = copy.deepcopy(document)
    inner = data.draw(st.sampled_from([p for p in positions(document) if p]))
    at = document
    for key in inner[:-1]:
        at = at[key]
    if data.draw(st.booleans()):
        del at[inner[-1]]
    elif isinstance(at, list):
        at.insert(inner[-1], data.draw(json_values))
    else:
        at[data.draw(st.sampled_from(["ranks", "nodes", "comment", "x", ""]))] = copy.deepcopy(at[inner[-1]])
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        return
    check_agreement(document)


@given(st.sampled_from((BY_RANK, BY_NODE)), st.data())
def test_cut_and_garbled_text(document, data):
    text = json.dumps(document, indent=1)
    at = data.draw(st.integers(0, len(text) - 1))
    garbled = text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        back = json.loads(garbled)
    except ValueError:
        with pytest.raises(TopologyError, match=r"^places\.json: line \d+ column \d+"):
            parse_placement(garbled, "places.json")
        return
    if garbled.count('"levels"') <= 1 and garbled.count('"nid1"') <= 1 and garbled.count('"ranks"') <= 1:
        text_again = json.dumps(back)
        try:
            placement = parse_placement(garbled, "places.json")
        except TopologyError:
            return
        assert parse_placement(text_again, "places.json") == placement
