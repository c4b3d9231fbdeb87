"""Read a Dockerfile and a .dockerignore: as much of their languages as this project's own use, and an error for anything else."""

import fnmatch
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
_KNOWN = ("FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword, its --options, and the rest as one line."""

    keyword: str
    options: dict[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        return self.rest.split()

    @property
    def command(self) -> list[str]:
        """The exec form; a ValueError where it is the shell form."""
        found = json.loads(self.rest.removeprefix("CMD ") if self.keyword == "HEALTHCHECK" else self.rest)
        assert isinstance(found, list) and all(isinstance(word, str) for word in found), self.rest
        return found


@dataclass(frozen=True)
class Stage:
    """FROM base AS name, and what follows."""

    name: str
    base: str
    steps: list[Instruction] = field(default_factory=list)

    def of(self, keyword: str) -> list[Instruction]:
        return [step for step in self.steps if step.keyword == keyword]

    def one(self, keyword: str) -> Instruction:
        (found,) = self.of(keyword)
        return found


def read_stages(arguments: dict[str, str] | None = None, path: Path = DOCKERFILE) -> dict[str, Stage]:
    """The stages in their order, with build arguments (the defaults where none are given) put into FROM lines."""
    known: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for step in map(_instruction, _lines(path.read_text(encoding="utf-8"))):
        if step.keyword == "ARG":
            assert not stages, "an ARG inside a stage is not read here"
            name, _, default = step.rest.partition("=")
            known[name] = (arguments or {}).get(name, default)
        elif step.keyword == "FROM":
            base, _, name = step.words
            stages[name] = Stage(name, re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], base))
        else:
            list(stages.values())[-1].steps.append(step)
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and all that it is made from, by FROM and by COPY --from."""
    stage = stages[name]
    sources = [stage.base, *(step.options["from"] for step in stage.of("COPY") if "from" in step.options)]
    return [stage, *(each for source in sources if source in stages for each in lineage(stages, source))]


def is_sent(path: str, ignore: Path = ROOT / ".dockerignore") -> bool:
    """Whether the build sees a file of the checkout: the last pattern that fits it, or a folder of it, decides."""
    parts = Path(path).parts
    folders = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    sent = True
    for line in ignore.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted = pattern.removeprefix("!")
        if any(fnmatch.fnmatch(folder, wanted) or fnmatch.fnmatch("/" + folder, wanted.replace("**/", "*/")) for folder in folders):
            sent = pattern.startswith("!")
    return sent


def _lines(text: str) -> list[str]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [re.sub(r"\s+", " ", line).strip() for line in re.sub(r"\\\n", " ", kept).splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    keyword, _, rest = line.partition(" ")
    assert keyword in _KNOWN, f"{keyword} is not read here"
    options = {}
    while found := re.match(r"--([\w-]+)=(\S+) ", rest):
        options[found[1]] = found[2]
        rest = rest[found.end() :]
    return Instruction(keyword, options, rest)
