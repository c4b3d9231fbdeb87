"""Classifier: an exported file, opened and ready to name what images show. The library's front door."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.card import Card, ModelFile, read_model_file
from cellclf.data.crops import View, view_of
from cellclf.data.decoding import Pixels, decode, decode_file
from cellclf.environment import usable_cores
from cellclf.errors import CellclfError, DecodeError, InferenceError, ModelFileError, ProviderUnavailableError
from cellclf.evaluation.decision import decide
from cellclf.runtime.explain import Explainer
from cellclf.runtime.pipeline import in_order
from cellclf.runtime.plan import Plan, load_plan
from cellclf.runtime.providers import parse_device
from cellclf.runtime.session import OnNote, Session, open_session

__all__ = ["EXPORTED", "Classifier", "Failure", "Prediction", "newest_model"]

MOST_THREADS = 256
"""More than these, and than there are cores, are a slip: starting them takes minutes."""

EXPORTED = Path("exported")
"""Where `cellclf export` writes and `cellclf predict` looks, below the current folder."""


@dataclass(frozen=True)
class Prediction:
    """What one image shows. probability is the label's; probabilities sum to 1; model is the file's SHA-256; provider is what really ran.

    label is what the file's operating point calls the image, or its most probable label where the file has none. abstained: the file gives no answer
    here, a person should look; label is then only what it would have said.
    """

    path: str
    label: str
    probability: float
    probabilities: dict[str, float]
    abstained: bool
    model: str
    provider: str

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` most probable labels, best first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]


@dataclass(frozen=True)
class Failure:
    """An input that could not be read, and why."""

    path: str
    error: str
    model: str
    provider: str

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


class Classifier:
    """An exported file on one device.

    path: the .onnx file, or one that was read already; None = the newest in ./exported. device: a row of PROVIDERS, a GPU's number, or auto.
    threads: CPU threads of a call, None = all this process may. sessions: calls of `probabilities` that come at a time, from as many threads.
    plan: one of this file, as `load_plan` gives it, of which the provider, its options and, for calls of as many threads, the batch are used; its
    threads and sessions where neither is given here. With none of the four, the plan that `cellclf tune` measured on this machine, if there is one.
    on_note: called with the plan that was found so, or with what 'auto' took. Raises ModelFileError, ProviderUnavailableError.
    """

    def __init__(
        self,
        path: str | Path | ModelFile | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        sessions: int = 1,
        plan: Plan | None = None,
        on_note: OnNote | None = None,
    ) -> None:
        file = path if isinstance(path, ModelFile) else read_model_file(Path(path) if path is not None else newest_model())
        self.path: Path = file.path
        self.card: Card = file.card
        self.fingerprint: str = file.fingerprint
        self.view: View = view_of(self.card)
        if threads is not None and threads < 1:
            raise CellclfError(f"threads {threads} must be at least 1")
        if threads is not None and threads > max(MOST_THREADS, usable_cores()):
            raise CellclfError(f"threads {threads} is more than {max(MOST_THREADS, usable_cores())}; this process may use {usable_cores()} cores")
        if sessions < 1:
            raise CellclfError(f"sessions {sessions} must be at least 1")
        shared_out = threads is None and sessions == 1
        if plan is not None and (plan.model != self.fingerprint or parse_device(device) not in (None, parse_device(plan.device))):
            raise CellclfError(
                f"a plan for {plan.device} of the file {plan.model[:12]}… is none for device {device} and {self.path}, {self.fingerprint}"
            )
        if plan is None and device == "auto" and shared_out:
            plan, line = load_plan(self.fingerprint)
            if line is not None and on_note is not None:
                on_note(line)
        self.plan: Plan | None = plan
        self.threads = threads or usable_cores()
        self.sessions = sessions
        self.file: ModelFile = file
        self._device = plan.device if plan else device
        self._lock = Lock()
        self._sessions: dict[tuple[int, int], Session] = {}
        self._single = (plan.single_threads, 1) if plan and shared_out else (self.threads, sessions)
        self._many = (plan.threads, plan.sessions) if plan and shared_out else (1, self.threads)
        self._first = self._open(*self._single, on_note)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the network's outputs."""
        return self.card.labels

    @property
    def provider(self) -> str:
        """What really runs, as its row of PROVIDERS names it."""
        return self._first.provider

    @property
    def device(self) -> str:
        """What to ask for to get this provider, and no other, again."""
        return str(self._first.target)

    @property
    def batch_size(self) -> int:
        """Images a call where there are many: the plan's where it is of as many CPU threads a call, or of a GPU; else the provider's own."""
        provider = self._first.target.provider
        return self.plan.batch if self.plan and (provider.gpu or self.plan.threads == self._many[0]) else provider.batch

    @property
    def golden_tolerance(self) -> float:
        """How far probabilities here may be from the card's golden cases: the card's word, or the provider's where it computes more coarsely."""
        return max(self.card.golden_tolerance, self._first.target.provider.golden_tolerance)

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        """uint8 RGB [batch, height, width, 3] of the card's size → float32 [batch, classes], using `threads` threads for the batch."""
        return self._run(images, *self._single)

    def predictions(self, names: Sequence[str], rows: npt.NDArray[np.float32]) -> list[Prediction]:
        """What rows of `probabilities`, float32 [batch, classes], say about the images of those names, decided as the card says."""
        decision = decide(rows, self.labels, operating_point=self.card.operating_point, abstain=self.card.abstain)
        found = []
        for name, row, number, abstained in zip(names, rows, decision.called, decision.abstained, strict=True):
            values = {label: float(value) for label, value in zip(self.labels, row, strict=True)}
            label = self.labels[number]
            found.append(Prediction(name, label, values[label], values, bool(abstained), self.fingerprint, self.provider))
        return found

    def explainer(self) -> Explainer:
        """What tells where the network of this very file looked; raises ModelFileError where the file holds no heat maps."""
        return Explainer(self.file)

    def failure(self, name: str, error: str) -> Failure:
        """The record of an input that could not be read."""
        return Failure(name, error, self.fingerprint, self.provider)

    def predict(self, image: str | Path | bytes) -> Prediction:
        """Name what one image shows, given its path or its bytes; raises DecodeError with the reason."""
        if isinstance(image, bytes):
            name, pixels = "", decode(image, self.view)
        else:
            name, pixels = str(image), decode_file(Path(image), self.view)
        return self.predictions([name], self.probabilities(pixels[None]))[0]

    def record(self, path: str | Path) -> Prediction | Failure:
        """One input's record, all threads at work on it; an unreadable file becomes a Failure."""
        return self._predict_chunk([str(path)], *self._single)[0]

    def predict_many(self, paths: Iterable[str | Path], *, batch_size: int | None = None) -> Iterator[Prediction | Failure]:
        """One record an input, in input order; an unreadable input becomes a Failure and the others go on.

        Each of `threads` workers decodes a batch and runs it on one CPU thread, so that no core waits for another; at most a few batches are held.
        batch_size None: `batch_size`. A plan may share the threads out to fewer sessions.
        """
        if isinstance(paths, (str, bytes)):
            raise CellclfError("predict_many takes a list of paths; for one image there is predict")
        if batch_size is not None and batch_size < 1:
            raise CellclfError(f"batch_size {batch_size} must be at least 1")
        return self._records(paths, batch_size or self.batch_size)

    def _records(self, paths: Iterable[str | Path], batch_size: int) -> Iterator[Prediction | Failure]:
        threads, sessions = self._many
        chunks = _chunks((str(path) for path in paths), batch_size)
        for records in in_order(lambda chunk: self._predict_chunk(chunk, threads, sessions), chunks, workers=threads * sessions):
            yield from records

    def _predict_chunk(self, paths: list[str], threads: int, sessions: int) -> list[Prediction | Failure]:
        decoded: list[Pixels | str] = []
        for path in paths:
            try:
                decoded.append(decode_file(Path(path), self.view))
            except DecodeError as error:
                decoded.append(str(error))
        images = [pixels for pixels in decoded if not isinstance(pixels, str)]
        readable = [path for path, pixels in zip(paths, decoded, strict=True) if not isinstance(pixels, str)]
        predictions = iter(self.predictions(readable, self._run(np.stack(images), threads, sessions)) if images else ())
        return [self.failure(path, pixels) if isinstance(pixels, str) else next(predictions) for path, pixels in zip(paths, decoded, strict=True)]

    def _run(self, images: Pixels, threads: int, sessions: int) -> npt.NDArray[np.float32]:
        if len(images) == 0:
            raise InferenceError("no images were given")
        session = self._open(threads, sessions)
        if session.provider != self.provider:
            raise ProviderUnavailableError(f"a second session opened on {session.provider}, the first on {self.provider}; name one with --device")
        values = session.run(images)
        if values.shape != (len(images), len(self.labels)):
            raise ModelFileError(f"{self.path} gave values of shape {values.shape} for {len(images)} images and {len(self.labels)} labels")
        if not np.isfinite(values).all() or np.abs(values.sum(axis=1) - 1).max() > 0.01:
            raise InferenceError(f"{self.path} gave values on {self.provider} that are no probabilities; run `cellclf verify {self.path}`")
        return values

    def _open(self, threads: int, sessions: int, on_note: OnNote | None = None) -> Session:
        """A session for so many calls at a time of so many threads each."""
        with self._lock:
            if (threads, sessions) not in self._sessions:
                opened = open_session(
                    self.file.content,
                    device=self._device,
                    threads=threads,
                    sessions=sessions,
                    precision=self.card.precision,
                    options=self.plan.options if self.plan else None,
                    on_note=on_note,
                )
                self._sessions[threads, sessions] = opened
            return self._sessions[threads, sessions]


def newest_model(folder: Path = EXPORTED) -> Path:
    """The .onnx file written last in a folder; raises ModelFileError."""
    files = sorted(folder.glob("*.onnx"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not files:
        raise ModelFileError(f"no .onnx file in {folder}/; export a run first (cellclf export), or name a file (predict: --model FILE, serve: FILE)")
    return files[-1]


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
