from __future__ import annotations

import pytest

from sciml.experiments.cli import main


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A folder in which `sciml run smoke` was done, in this process and with one worker."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "smoke", "--workers", "1"]) == 0
    return folder
