"""The campaigns of `tests/faults`, each as often as every run of the tests can afford."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import posix

pytest.importorskip("termios", reason="the campaigns want signals, pipes and /proc")

from faults import long
from faults.campaigns import CAMPAIGNS
from faults.mutations import MUTATIONS, seen

pytestmark = posix

slow = [name for name, campaign in CAMPAIGNS.items() if campaign.always == 0]
names = [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in CAMPAIGNS]


@pytest.mark.whole
@pytest.mark.parametrize("name", names)
def test_campaign(name: str) -> None:
    if name == "G2 failing calls" and shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    campaign = CAMPAIGNS[name]
    n = campaign.long if name in slow else campaign.always
    trials, failures = campaign.run(n, 0)
    assert trials >= max(n or 0, campaign.least) > 0
    assert failures == []


@pytest.mark.long
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_long_campaign(name: str) -> None:
    _, failures = CAMPAIGNS[name].run(CAMPAIGNS[name].long, 1)
    assert failures == []


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_missing_safeguard_is_noticed(name: str) -> None:
    assert seen(MUTATIONS[name])


@pytest.mark.whole
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


@pytest.mark.whole
def test_the_long_run_keeps_to_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Every campaign makes some trials, and no more than the long run would."""
    assert long.main(["power", "mutants", "--minutes", "0.005"]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [name.strip() for name, _ in rows] == ["G3 power loss", "G4 mutants"]
    for name, trials in rows:
        campaign = CAMPAIGNS[name.strip()]
        assert campaign.long is not None
        assert 200 <= int(trials.replace(",", "")) <= campaign.long
