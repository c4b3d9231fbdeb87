"""Do what a Dockerfile says without Docker: each stage in a folder that stands for its root, each command as it is written.

What stands for the image's paths is the folder's; for the base image, a copy of this Python. Processes get the image's environment and nothing of
ours, but for what the network here needs while something is installed. As root, what the image runs has its user, no capability, and a file system
that is read-only everywhere.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.deploy.dockerfile import ROOT, Instruction, Stage, is_sent, read_stages

_PATHS = re.compile(r"(?<![\w/.})-])/(?=(?:build|opt|srv|usr/local)(?:/|\b))")
"""Where a path of the image begins; /bin, /usr/bin and /tmp are this machine's."""

_READ_ONLY = 'mount -o remount,bind,ro / && if mountpoint -q "$1"; then mount -o remount,bind,ro "$1"; fi && shift && exec "$@"'


@dataclass(frozen=True)
class Image:
    """What a stage has become: its variables, working folder, user, and words to run."""

    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/srv"})
    directory: str = "/"
    user: str | None = None


class Replay:
    """The stages of the Dockerfile below `place`, made where asked for. One is at `root` at a time, so that in all of them paths are the same."""

    def __init__(self, place: Path, arguments: dict[str, str] | None = None) -> None:
        self.place, self.root = place, place / "root"
        self._stages, self._made = read_stages(arguments), dict[str, Image]()
        self._present: str | None = None

    def make(self, name: str, *, dry_run: bool = False) -> Image:
        """Put a stage at the root, made where it is not yet. dry_run: let uv only tell what it would install in this one."""
        stage = self._stages[name]
        if name not in self._made:
            for other in self._sources(stage):
                self.make(other)
        if name == self._present:
            return self._made[name]
        if self._present is not None:
            self.root.rename(self._kept(self._present))
        self._present = name
        if name in self._made:
            self._kept(name).rename(self.root)
            return self._made[name]
        _copy(self._kept(stage.base) if stage.base in self._stages else self._base_image(), self.root)
        image = self._made.get(stage.base, Image())
        for step in stage.steps:
            image = self._step(image, step, dry_run=dry_run)
        self._made[name] = image
        return image

    def stage(self, name: str) -> Stage:
        return self._stages[name]

    def here(self, text: str) -> str:
        """Paths of the image → paths of this machine."""
        return _PATHS.sub(lambda _: f"{self.root}/", text)

    def command(self, image: Image, words: Sequence[str]) -> list[str]:
        """The words, found on the image's PATH, as its user."""
        found = shutil.which(words[0], path=self.environment(image)["PATH"])
        assert found is not None, f"{words[0]} is not on the image's PATH"
        return [*self._confined(image), found, *map(self.here, words[1:])]

    def environment(self, image: Image) -> dict[str, str]:
        library = {"LD_LIBRARY_PATH": f"{self.root}/usr/local/lib"}  # the copied Python's own
        return {name: self.here(value) for name, value in image.environment.items()} | library

    def directory(self, image: Image) -> Path:
        return Path(self.root, image.directory.lstrip("/"))

    def _kept(self, name: str) -> Path:
        return self.place / "stages" / name

    def _sources(self, stage: Stage) -> list[str]:
        named = [stage.base, *(step.options.get("from", "") for step in stage.of("COPY"))]
        return [name for name in named if name in self._stages]

    def _step(self, image: Image, step: Instruction, *, dry_run: bool) -> Image:
        match step.keyword:
            case "ENV":
                values = dict(pair.split("=", 1) for pair in step.words)
                path = image.environment["PATH"]
                return replace(image, environment=image.environment | {name: value.replace("$PATH", path) for name, value in values.items()})
            case "WORKDIR":
                image = replace(image, directory=step.rest)
                self.directory(image).mkdir(parents=True, exist_ok=True)
            case "USER":
                return replace(image, user=step.rest)
            case "COPY":
                self._copy_step(image, step)
            case "RUN":
                self._run_step(image, step, dry_run=dry_run)
        return image

    def _copy_step(self, image: Image, step: Instruction) -> None:
        *sources, target = step.words
        into = Path(self.here(target)) if target.startswith("/") else self.directory(image) / target
        for source in sources:
            if "from" in step.options:
                _copy(self._kept(step.options["from"]) / source.lstrip("/"), into)
            elif (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=_not_sent)
            else:
                assert is_sent(source), source
                named = into / Path(source).name if target.endswith("/") else into
                named.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, named)

    def _run_step(self, image: Image, step: Instruction, *, dry_run: bool) -> None:
        text = self.here(step.rest)
        if dry_run:
            text = text.replace("uv pip install ", "uv pip install --dry-run ")
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=self.directory(image),
            env=self.environment(image) | _network(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {step.rest}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    def _confined(self, image: Image) -> list[str]:
        if image.user is None or os.geteuid() != 0:
            return []
        user, group = image.user.split(":")
        alone = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if not can_mount():
            return alone
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _READ_ONLY, "sh", str(_mount_point(self.place)), *alone]

    def _base_image(self) -> Path:
        """/usr/local of an image python:3.X-slim: interpreter and standard library, nothing installed."""
        base = self._kept("base image")
        if base.exists():
            return base
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        local = base / "usr" / "local"
        standard = Path(sysconfig.get_path("stdlib"))
        shutil.copytree(standard, local / "lib" / version, ignore=shutil.ignore_patterns("test", "site-packages", "dist-packages", "__pycache__"))
        (local / "bin").mkdir()
        shutil.copy(Path(sys.executable).resolve(), local / "bin" / version)
        for name in ("python", "python3"):
            (local / "bin" / name).symlink_to(version)
        shared = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "none")
        if shared.is_file():
            shutil.copy(shared, local / "lib" / shared.name)
        return base


@functools.cache
def can_mount() -> bool:
    """Whether a process here may have a file system of its own, which root may where nothing forbids it."""
    asked = ["unshare", "--mount", "--propagation", "private", "mount", "-o", "remount,bind,ro", "/"]
    return os.geteuid() == 0 and subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _copy(source: Path, target: Path) -> None:
    """A tree as it is, links as links; files are shared, since no step changes one in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", str(source), str(target)], check=True)


def _not_sent(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not is_sent(str(Path(folder, name).relative_to(ROOT)))}


def _mount_point(path: Path) -> Path:
    return path if os.path.ismount(path) else _mount_point(path.parent)


def _network() -> dict[str, str]:
    """Which index, proxy and certificates installers use on this machine."""
    kept = re.compile(r"(PIP|UV|SSL|REQUESTS|CURL)_.*|(https?|no|all)_proxy", re.IGNORECASE)
    return {"UV_SYSTEM_CERTS": "true", **{name: value for name, value in os.environ.items() if kept.fullmatch(name)}}
