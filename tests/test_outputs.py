"""What is written goes nowhere else than where it is wanted, and is as private as before."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ROOT, TINY, fails, posix, run

import charlstm
from charlstm.errors import OutputError, UsageError
from charlstm.storage.checkpoint import read_checkpoint, rescued, write_checkpoint
from charlstm.storage.files import claim, replacing

root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
SHORT = ("--steps", "3", *TINY, "-q")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts, a configuration, and other names of them."""
    (tmp_path / "c.txt").write_text("a small ferry\n" * 100)
    (tmp_path / "v.txt").write_text("a small ferry\n" * 9)
    (tmp_path / "y.yaml").write_text("model: {hidden: 4}\n")
    (tmp_path / "here").symlink_to(tmp_path)
    for name in ("c.txt", "v.txt", "y.yaml"):
        (tmp_path / f"hard-{name}").hardlink_to(tmp_path / name)
        (tmp_path / f"soft-{name}").symlink_to(name)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def spellings(name: str) -> list[str]:
    return [name, f"./{name}", f"here/{name}", f"hard-{name}", f"soft-{name}"]


class TestApart:
    """No output is an input or another output."""

    @posix
    @pytest.mark.parametrize("option", ["-o", "--log"])
    @pytest.mark.parametrize("name", ["c.txt", "v.txt", "y.yaml"])
    def test_an_input_is_never_replaced(self, folder: Path, option: str, name: str) -> None:
        before = contents(folder)
        read = ("c.txt", "--valid", "v.txt", "-c", "./y.yaml")
        for spelling in spellings(name):
            process = run("train", *read, option, spelling, *SHORT, "--force", cwd=folder)
            fails(process, 2, spelling, "name another file")
        assert contents(folder) == before

    @posix
    def test_standard_input_that_is_a_file(self, folder: Path) -> None:
        with open(folder / "c.txt") as file:
            process = subprocess.run(
                [sys.executable, "-m", "charlstm", "train", "-", "--log", "c.txt", "--force"],
                stdin=file,
                cwd=folder,
                capture_output=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        fails(process, 2, "the corpus too")
        assert (folder / "c.txt").stat().st_size

    @posix
    @pytest.mark.parametrize("exists", [True, False])
    def test_the_log_is_not_the_model(self, folder: Path, exists: bool) -> None:
        names = ["m.npz", "./m.npz", "here/m.npz"]
        if exists:
            assert run("train", "c.txt", "-o", "m.npz", *SHORT, cwd=folder).returncode == 0
            (folder / "hard").hardlink_to(folder / "m.npz")
            names.append("hard")
        before = contents(folder)
        for name in names:
            for how in ("--force", "--resume"):
                process = run("train", "c.txt", "-o", "m.npz", "--log", name, how, cwd=folder)
                fails(process, 2, "the output too")
        assert contents(folder) == before

    def test_from_python(self, folder: Path) -> None:
        before = contents(folder)
        for output in (folder / "c.txt", folder / "v.txt"):
            with pytest.raises(UsageError, match="too; name another file"):
                charlstm.train(folder / "c.txt", output, valid=folder / "v.txt", force=True)
        with pytest.raises(UsageError, match="a configuration too"):
            charlstm.train(
                folder / "c.txt", folder / "y.yaml", config=str(folder / "y.yaml"), force=True
            )
        assert contents(folder) == before


class TestAskedFor:
    """A log that exists is replaced or continued only where that is asked for."""

    def test_a_log_that_exists(self, folder: Path) -> None:
        (folder / "log").write_text("a diary\n")
        message = fails(run("train", "c.txt", *SHORT, "--log", "log", cwd=folder), 2, "log exists")
        assert "--force" in message and "--log FILE" in message
        assert (folder / "log").read_text() == "a diary\n"
        assert not (folder / "charlstm.npz").exists()
        assert run("train", "c.txt", *SHORT, "--log", "log", "--force", cwd=folder).returncode == 0
        assert (folder / "log").read_text().startswith('{"step": 3, ')

    def test_a_log_that_is_a_folder(self, folder: Path) -> None:
        fails(run("train", "c.txt", *SHORT, "--log", ".", cwd=folder), 2, "is a directory")

    @posix
    def test_a_log_may_be_a_stream(self, folder: Path) -> None:
        for name in ("/dev/null", "/dev/stderr"):
            process = run("train", "c.txt", *SHORT, "--log", name, "--force", cwd=folder)
            assert process.returncode == 0, process.stderr
        assert process.stderr.startswith(b'{"step": 3, ')
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("may not make a device")


@posix
@pytest.mark.parametrize("make", [fifo, listening, device])
def test_only_files_are_replaced(folder: Path, make: Callable[[Path], None]) -> None:
    node = folder / "node"
    make(node)
    kind = stat.S_IFMT(node.stat().st_mode)
    (folder / "link").symlink_to("node")
    for name in ("node", "link"):
        for how in ([], ["--force"], ["--resume"]):
            process = run("train", "c.txt", "-o", name, *SHORT, *how, cwd=folder)
            message = fails(process, 2, "only a file can be replaced")
            assert "--force" not in message
    assert stat.S_IFMT(node.stat().st_mode) == kind
    with pytest.raises(UsageError, match="only a file"):
        write_checkpoint(node, read_checkpoint(model(folder)))
    assert stat.S_IFMT(node.stat().st_mode) == kind


def model(folder: Path) -> Path:
    """A small model in a file."""
    settings = {"train.steps": 3, "model.hidden": 4}
    list(charlstm.train(folder / "c.txt", folder / "small.npz", settings=settings))
    return folder / "small.npz"


class TestPermissions:
    """Those of the file that is replaced are kept, at every instant."""

    @posix
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o604])
    def test_the_mode(self, folder: Path, mode: int) -> None:
        path = model(folder)
        path.chmod(mode)
        write_checkpoint(path, read_checkpoint(path))
        assert stat.S_IMODE(path.stat().st_mode) == mode

    @posix
    def test_of_a_run(self, folder: Path) -> None:
        assert run("train", "c.txt", *SHORT, cwd=folder).returncode == 0
        (folder / "charlstm.npz").chmod(0o600)
        for how in (["--resume", "--steps", "5", "-q"], ["--force", *SHORT]):
            assert run("train", "c.txt", *how, cwd=folder).returncode == 0
            assert stat.S_IMODE((folder / "charlstm.npz").stat().st_mode) == 0o600

    @posix
    def test_the_temporary_is_never_more_open(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not when it is made, nor before anything of it is changed."""
        path, modes = folder / "private", list[int]()
        path.write_text("old")
        path.chmod(0o640)

        def seen(name: str, real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                modes.extend(stat.S_IMODE(p.stat().st_mode) for p in folder.glob(".private.*"))
                return real(*arguments)

            return call

        for name in ("fchmod", "fchown", "fstat", "replace", "fsync"):
            monkeypatch.setattr(os, name, seen(name, getattr(os, name)))
        before = os.umask(0)
        try:
            with replacing(path) as file:
                file.write(b"new")
        finally:
            os.umask(before)
        assert modes
        assert all(mode & ~0o640 == 0 for mode in modes)
        assert path.read_bytes() == b"new"

    @root
    def test_owner_and_group(self, folder: Path) -> None:
        path = folder / "theirs"
        path.write_text("old")
        os.chown(path, 1234, 4321)
        path.chmod(0o660)
        with replacing(path) as file:
            file.write(b"new")
        info = path.stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1234, 4321, 0o660)

    @posix
    def test_a_group_that_cannot_be_kept(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then that of the new file may do no more with it than everybody."""
        path = folder / "shared"
        path.write_text("old")
        path.chmod(0o664)
        real = os.stat

        def elsewhere(name: object, *rest: object, **more: object) -> os.stat_result:
            info = real(name, *rest, **more)  # type: ignore[arg-type]
            if str(name).endswith("shared"):
                info = os.stat_result([*info[:4], info.st_uid, info.st_gid + 1, *info[6:10]])
            return info

        def refuse(*arguments: object) -> None:
            raise PermissionError

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", elsewhere)
            patch.setattr(os, "fchown", refuse)
            with replacing(path) as file:
                file.write(b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    """A file that is a mount of its own, so that nothing can be renamed to it."""
    path, other = folder / "a mount.npz", folder / "other"
    path.touch()
    other.touch()
    if subprocess.run(["mount", "--bind", other, path], capture_output=True).returncode:
        pytest.skip("may not mount")
    yield path
    subprocess.run(["umount", path], check=True)


class TestRename:
    """Whether a file can be renamed over is found out before the first step."""

    @root
    def test_a_mounted_file(self, folder: Path, mounted: Path) -> None:
        process = run("train", "c.txt", *SHORT, "--force", "-o", mounted, cwd=folder)
        fails(process, 6, "cannot be replaced: it is a mount of its own", "-o FILE")
        assert b"trained on" not in process.stderr

    @root
    def test_another_users_file_in_a_sticky_folder(self) -> None:
        shared = Path(tempfile.mkdtemp())
        shared.chmod(0o1777)
        path = shared / "m.npz"
        path.write_text("theirs")
        path.chmod(0o666)
        os.chown(path, 1234, 1234)

        def claimed(user: int) -> str:
            """What another user is told."""
            script = (
                f"import os, sys; from charlstm.storage.files import claim; os.setuid({user})\n"
            )
            # coverage could not write its data as another user, and would say so
            env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
            process = subprocess.run(
                [sys.executable, "-c", f"{script}\nclaim(sys.argv[1])", str(path)],
                env={**env, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            return process.stderr

        try:
            assert "m.npz: cannot be replaced: Operation not permitted" in claimed(4321)
            assert claimed(1234) == ""
            assert os.listdir(shared) == ["m.npz"]
            assert path.read_text() == "theirs"
        finally:
            shutil.rmtree(shared)

    @posix
    def test_what_can_be_renamed_over_stays(self, folder: Path) -> None:
        path = model(folder)
        before = path.read_bytes()
        claim(path).release()
        assert path.read_bytes() == before


class TestLastSave:
    """A model that cannot be written in the end is not lost."""

    @pytest.fixture
    def spare(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        """Where temporary files go."""
        path = tmp_path_factory.mktemp("spare")
        monkeypatch.setattr(tempfile, "tempdir", str(path))
        return path

    def trained(self, folder: Path, monkeypatch: pytest.MonkeyPatch, blocked: str) -> OutputError:
        """The error of a run in which, from its middle on, paths with `blocked` take no file."""
        path = folder / "m.npz"
        settings = {"train.steps": 5, "model.hidden": 4, "train.save_every": "1h"}
        training = charlstm.train(folder / "c.txt", path, settings=settings)
        real = os.replace

        def replace(source: str, target: Path) -> None:
            if blocked in str(target):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(OutputError) as caught:
            list(training)
        assert caught.value.exit_code == 6
        assert not path.exists()
        return caught.value

    def test_beside(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "m.rescued.npz").write_text("an older one")
        e = self.trained(folder, monkeypatch, "m.npz")
        place = folder / "m.rescued-2.npz"
        assert f"; the model is saved as {place}; " in str(e)
        assert read_checkpoint(place).progress.step == 5
        assert (folder / "m.rescued.npz").read_text() == "an older one"

    def test_elsewhere(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        spare = tmp_path_factory.mktemp("spare")
        monkeypatch.setattr(tempfile, "tempdir", str(spare))
        e = self.trained(folder, monkeypatch, str(folder))
        (place,) = spare.glob("charlstm-*/m.npz")
        assert f"; the model is saved as {place}; " in str(e)
        assert read_checkpoint(place).progress.step == 5

    def test_nowhere(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        spare = tmp_path_factory.mktemp("spare")
        monkeypatch.setattr(tempfile, "tempdir", str(spare))
        e = self.trained(folder, monkeypatch, "m.")
        assert "could not be saved anywhere else either" in str(e)
        assert os.listdir(spare) == []

    @posix
    def test_as_private_as_it_was(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = model(folder)
        path.chmod(0o600)
        checkpoint = read_checkpoint(path)
        rescued(path, checkpoint, OutputError("full"))
        assert stat.S_IMODE((folder / "small.rescued.npz").stat().st_mode) == 0o600
