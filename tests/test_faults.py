"""The campaigns of `tests/faults`, each as often as every run of the tests can afford."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.campaigns import CAMPAIGNS
from faults.mutations import MUTATIONS, seen

posix = pytest.mark.skipif(os.name != "posix", reason="forks, signals and /proc are POSIX's")


@posix
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign(name: str) -> None:
    campaign = CAMPAIGNS[name]
    trials, failures = campaign.run(campaign.always, 0)
    assert trials >= (campaign.always or 100)
    assert failures == []


@posix
@pytest.mark.long
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_long_campaign(name: str) -> None:
    _, failures = CAMPAIGNS[name].run(CAMPAIGNS[name].long, 1)
    assert failures == []


@posix
@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_missing_safeguard_is_noticed(name: str) -> None:
    assert seen(MUTATIONS[name])


@posix
def test_the_long_run_prints_a_table() -> None:
    script = Path(__file__).parent / "faults" / "long.py"
    process = subprocess.run(
        [sys.executable, str(script), "power", "configurations", "--share", "0.001"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[2].startswith("| G3 power loss | 50 | 0 | 6.0e-02 |")
    assert lines[3].startswith("| G5 configurations | 500 | 0 | 6.0e-03 |")
