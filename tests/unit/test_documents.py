"""All three kinds of files are read as strictly, each with its own error."""

import pytest

from topocomm.choose.measured import parse_tuning
from topocomm.errors import Error, TopologyError
from topocomm.model import parse_machine
from topocomm.topology import parse_placement

READERS = [(parse_placement, TopologyError), (parse_machine, TopologyError), (parse_tuning, Error)]


@pytest.mark.parametrize(("parse", "error"), READERS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": {"c": 1,\n "c": 2}}', "key 'c' appears twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits is too large"),
        ('{"a":\n 1,}', "line 2 column 4: not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_strictly_json_is_refused(parse, error, text, says):
    with pytest.raises(error) as raised:
        parse(text, "f.json")
    assert type(raised.value) is error
    assert str(raised.value).startswith("f.json: ")
    assert says in str(raised.value)
