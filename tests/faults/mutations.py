"""Do the tests notice when a safeguard is missing?

    python tests/faults/mutations.py [NAME]...

Takes one safeguard after the other out of a copy of the tree and runs tests that must fail then,
and that pass as long as nothing is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """What stands once in a file, what takes its place, and tests that see it."""

    file: str
    old: str
    new: str
    tests: str
    """Of pytest: a file and a -k expression."""


CHECKPOINT, LEARNER = "charlstm/storage/checkpoint.py", "charlstm/training/learner.py"
FILES, SAFETENSORS = "charlstm/storage/files.py", "charlstm/exchange/safetensors.py"

MUTATIONS = {
    "fsync": Mutation(
        FILES, "            os.fsync(file.fileno())\n", "",
        "tests/test_faults.py G3 and campaign",
    ),
    "fsync of the directory": Mutation(
        FILES, "        os.fsync(descriptor)\n", "        pass\n",
        "tests/test_faults.py G3 and campaign",
    ),
    "rename": Mutation(
        FILES, "os.replace(file.name, target)",
        "target.write_bytes(Path(file.name).read_bytes())",
        "tests/test_checkpoint_writing.py failing_write or symbolic or synced",
    ),
    "random state": Mutation(
        LEARNER,
        "self.rng = np.random.default_rng()\n        self.rng.bit_generator.state = p.random",
        "self.rng = np.random.default_rng()",
        "tests/test_resume.py test_bit_for_bit and comes",
    ),
    "recurrent state": Mutation(
        LEARNER, "s[...] = before[mine]", "s[...] = 0 * before[mine]",
        "tests/test_resume.py test_bit_for_bit and comes",
    ),
    "checksum (SHA-256)": Mutation(
        "charlstm/storage/archive.py", ".tobytes() != sha.digest():", ".tobytes() == b'':",
        "tests/test_checkpoint_damage.py digest",
    ),
    "checksum (CRC-32)": Mutation(
        "charlstm/storage/archive.py", "if data[at:start] != member.local_header():", "if False:",
        "tests/test_archive.py every_byte",
    ),
    "finite check (writing)": Mutation(
        CHECKPOINT, "if not np.isfinite(array).all():\n            raise Div",
        "if False:\n            raise Div", "tests/test_checkpoint_writing.py not_finite_is_never",
    ),
    "finite check (training)": Mutation(
        LEARNER, "if not (math.isfinite(nats) and math.isfinite(length)):", "if False:",
        "tests/test_divergence.py TestDivergence and is_named",
    ),
    "finite check (reading)": Mutation(
        CHECKPOINT, "if not np.isfinite(weights.flat).all():", "if False:",
        "tests/test_checkpoint_damage.py numbers_that_are_not_finite",
    ),
    "finite check (importing)": Mutation(
        SAFETENSORS, "if not np.isfinite(array).all():", "if False:",
        "tests/test_import_damage.py the and number",
    ),
    "digest of an export": Mutation(
        SAFETENSORS, "if sha.hexdigest() != digest:", "if False:",
        "tests/test_import_damage.py no_mutant",
    ),
    "arrays one behind the other": Mutation(
        SAFETENSORS, "if [0, *(end for _, end in ends)] !=", "if not",
        "tests/test_import_damage.py overlap or hole or byte",
    ),
    "limit of a header's parts": Mutation(
        SAFETENSORS, "if any(n >= most for n, _ in enumerate(TOKEN.finditer(text))):", "if False:",
        "tests/test_import_damage.py memory",
    ),
    "bias inside the reset gate": Mutation(
        "charlstm/exchange/recognise.py", 'if model.shape.cell == "gru" and', "if False and",
        "tests/test_import.py inside",
    ),
    "lock": Mutation(
        "charlstm/storage/lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        "tests/test_lock.py one_at_a_time",
    ),
}  # fmt: skip


def passes(tree: Path, tests: str) -> bool:
    """Whether tests pass in a copy of the project."""
    file, _, expression = tests.partition(" ")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file]
    command += ["-m", "not long"]  # the tests that the plain command leaves out, too
    process = subprocess.run(
        [*command, "-k", expression],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    if process.returncode not in (0, 1):  # none was collected, or pytest itself failed
        raise RuntimeError(process.stdout[-2000:] + process.stderr[-2000:])
    return process.returncode == 0


def seen(mutation: Mutation) -> bool:
    """Whether the tests pass as things are, and fail with the mutation."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for part in ("charlstm", "configs", "corpora", "docs", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("README.md", "CHANGELOG.md", "pyproject.toml"):
            shutil.copy(ROOT / part, tree / part)
        file = tree / mutation.file
        source = file.read_text(encoding="utf-8")
        if source.count(mutation.old) != 1:
            raise RuntimeError(f"{mutation.file} does not have {mutation.old!r} once")
        if not passes(tree, mutation.tests):
            raise RuntimeError(f"{mutation.tests}: fails as things are")
        file.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        return not passes(tree, mutation.tests)


def main(names: list[str]) -> int:
    unseen = 0
    for name, mutation in MUTATIONS.items():
        if names and name not in names:
            continue
        noticed = seen(mutation)
        unseen += not noticed
        print(f"without {name}: {'noticed' if noticed else 'NOT NOTICED'}", flush=True)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
