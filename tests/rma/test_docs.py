"""The code in the documentation runs as it stands."""

import re
import sys

import pytest
from launching import MPIEXEC, ROOT, run

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "notified-rma.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number, tmp_path):
    program = tmp_path / "block.py"
    program.write_text(BLOCKS[number] + '\nprint("done", flush=True)\n')
    code, output = run([str(MPIEXEC), "-n", "3", sys.executable, str(program)])
    assert code == 0, output
    assert output.count("done") == 3
