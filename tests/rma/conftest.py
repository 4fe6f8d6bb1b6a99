"""The fixture that launches a program under MPI."""

import sys
from collections.abc import Callable

import pytest
from launching import HERE, MPIEXEC, run


@pytest.fixture(scope="session")
def launch() -> Callable[..., str]:
    """launch(ranks, program, *arguments) → output; fails unless every rank said that it passed."""
    if not MPIEXEC.exists():
        pytest.skip(f"needs mpiexec beside {sys.executable}")

    def start(ranks: int, program: str, *arguments: str, limit: float = 60, env: dict[str, str] | None = None) -> str:
        command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(HERE / "programs" / program), *arguments]
        code, output = run(command, limit, env)
        assert code == 0, f"{' '.join(command)} ended with {code}:\n{output}"
        assert output.count("passed") == ranks, f"{output.count('passed')} of {ranks} ranks passed:\n{output}"
        return output

    return start
