"""The models in service, by name and version: hash checked, opened as planned, proven by golden cases, warmed up. No HTTP but its statuses."""

import logging
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cellclf.artifact.verify import prove
from cellclf.card import ModelFile, read_model_file
from cellclf.errors import ServingError
from cellclf.runtime.buckets import BUCKETS
from cellclf.runtime.classifier import Classifier, newest_model
from cellclf.runtime.plan import Plan, load_plan
from cellclf.runtime.warming import all_at_once
from cellclf.serving.logs import event
from cellclf.serving.processes import why_no_processes
from cellclf.serving.refusals import RefusedError
from cellclf.serving.settings import Settings

__all__ = ["Models", "ServedModel", "Source", "checked_file", "load", "opened", "sources_of", "why_not_apart"]

_VERSION_LENGTH = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Source:
    """Where a model comes from, under which name, on which device. sha256: hashes that its file may have; none = any."""

    name: str
    path: Path
    device: str
    sha256: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that answers. version: the beginning of its file's SHA-256. seconds_per_image: of one worker, without decoding, in the warm-up."""

    source: Source
    classifier: Classifier
    version: str
    seconds_per_image: float

    @property
    def name(self) -> str:
        """The name in requests."""
        return self.source.name

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the network's images."""
        return self.classifier.card.height_px, self.classifier.card.width_px


def sources_of(models: Sequence[str], *, device: str, sha256: Collection[str] = ()) -> list[Source]:
    """FILE or NAME=FILE each, the newest in exported/ where there is none; a name is the file's without suffix. Raises ServingError."""
    hashes = frozenset(text.lower() for text in sha256)
    if wrong := [text for text in hashes if not re.fullmatch(r"[0-9a-f]{64}", text)]:
        raise ServingError(f"--sha256 {wrong[0]!r} is no SHA-256: give its 64 hexadecimal digits")
    found = []
    for text in models or [str(newest_model())]:
        name, named, file = text.partition("=")
        path = Path(file if named else text)
        name = name if named else path.stem
        if not _NAME.fullmatch(name):
            raise ServingError(f"{name!r} cannot be a model's name in an address; give NAME=FILE, of letters, digits, dots, dashes and underscores")
        found.append(Source(name, path, device, hashes))
    return found


def why_not_apart(sources: Sequence[Source]) -> str | None:
    """Why workers cannot be processes of their own for what these sources' files run on here; None where they can. Raises as `checked_file`.

    A file is read only where the device that was asked for does not tell: on a machine with a GPU, a plan may keep to the CPU.
    """
    for source in sources:
        why = why_no_processes(source.device)
        plan, _ = _plan(source, checked_file(source)) if why is not None and source.device == "auto" else (None, None)
        if plan is not None:
            why = why_no_processes(plan.device)
        if why is not None:
            return why
    return None


def checked_file(source: Source) -> ModelFile:
    """Read a source's file, unless its hash is none of those it may have. Raises ServingError, ModelFileError."""
    file = read_model_file(source.path)
    if source.sha256 and file.fingerprint not in source.sha256:
        raise ServingError(f"{source.path} has the SHA-256 {file.fingerprint}, which is not among those that --sha256 allows; it was not opened")
    return file


def load(source: Source, settings: Settings) -> ServedModel:
    """Read, check the hash before anything is opened, and open; raises as `checked_file` and `opened` do."""
    return opened(source, checked_file(source), settings)


def opened(source: Source, file: ModelFile, settings: Settings) -> ServedModel:
    """Open a source's file on its device, or as planned where that is auto; replay the golden cases, run each batch size once.

    What became of a plan is logged before the file is opened, so that it is told where that fails. Raises ServingError, ModelFileError,
    VerificationError, ProviderUnavailableError, MissingExtraError.
    """
    plan, line = _plan(source, file)
    version = file.fingerprint[:_VERSION_LENGTH]
    if plan is not None:
        event("plan", model=source.name, version=version, outcome="used", device=plan.device, options=plan.options, measured=plan.measured)
    elif line is not None:
        event("plan", logging.WARNING, model=source.name, version=version, outcome="not used", reason=line)
    if settings.processes and (why := why_no_processes(plan.device if plan else source.device)):
        asked = f"the plan of {source.path}, for {plan.device}" if plan else f"--device {source.device}"
        raise ServingError(f"no worker processes for {asked}: {why}; use --no-processes")
    classifier = Classifier(file, device=source.device, threads=1, sessions=1 if settings.processes else settings.threads, plan=plan)
    prove(classifier)
    callers = classifier.sessions
    seconds = 0.0
    for size in [bucket for bucket in BUCKETS if bucket < settings.max_batch] + [settings.max_batch]:
        images = np.zeros((size, classifier.card.height_px, classifier.card.width_px, 3), dtype=np.uint8)
        if callers > 1:
            all_at_once(partial(classifier.probabilities, images), callers=callers)
        started = time.monotonic()
        classifier.probabilities(images)
        seconds = (time.monotonic() - started) / size
    return ServedModel(source, classifier, version, seconds)


def _plan(source: Source, file: ModelFile) -> tuple[Plan | None, str | None]:
    """As load_plan, where the device is left to us. Workers have a thread each whatever a plan says: it is for the provider that it was measured."""
    return load_plan(file.fingerprint) if source.device == "auto" else (None, None)


class Models:
    """Names and versions in service; the first name is the default, the version exported last is each name's. For the event loop's thread."""

    def __init__(self, loaded: Sequence[ServedModel]) -> None:
        self._by_name: dict[str, list[ServedModel]] = {}
        for model in loaded:
            self._add(model)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter([model for versions in self._by_name.values() for model in versions])

    def versions(self, name: str) -> list[ServedModel]:
        """All versions of a name, the default last; raises RefusedError 404."""
        if name not in self._by_name:
            raise RefusedError(404, f"there is no model {name[:100]!r} here; there is: {', '.join(self._by_name)}", reason="model")
        return self._by_name[name]

    def find(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """A model by name and version, the defaults where not given; raises RefusedError 404."""
        versions = self.versions(name if name is not None else next(iter(self._by_name)))
        if version is None:
            return versions[-1]
        for model in versions:
            if version in (model.version, model.classifier.fingerprint):
                return model
        known = ", ".join(model.version for model in versions)
        raise RefusedError(404, f"there is no version {version[:100]!r} of {versions[0].name} here; there is: {known}", reason="model")

    def replace(self, old: ServedModel, new: ServedModel) -> None:
        """From now on requests go to `new`; those that have `old` keep it to their end.

        Raises ServingError where `new` is served already, has other labels, or wants images resized otherwise.
        """
        self._add(new)
        self._by_name[old.name].remove(old)

    def _add(self, model: ServedModel) -> None:
        versions = self._by_name.setdefault(model.name, [])
        if any(other.version == model.version for other in versions):
            raise ServingError(f"{model.source.path} is the same file as another one served as {model.name}")
        if any(other.classifier.labels != model.classifier.labels for other in versions):
            known, here = (", ".join(each.classifier.labels) for each in (versions[0], model))
            raise ServingError(
                f"{model.source.path} tells {here} apart, and what is served as {model.name} tells {known}; "
                "whoever reads probabilities by their place would take one for the other, so it wants a name of its own: NAME=FILE"
            )
        if any(other.classifier.card.resize != model.classifier.card.resize for other in versions):
            known, here = (each.classifier.card.resize for each in (versions[0], model))
            raise ServingError(
                f"{model.source.path} wants images resized by {here}, and what is served as {model.name} by {known}; "
                "whoever sends pixels would send the wrong ones, so it wants a name of its own: NAME=FILE"
            )
        versions.append(model)
        versions.sort(key=lambda each: each.classifier.card.created)
