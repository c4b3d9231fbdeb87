"""The errors a user can see, as one tree. Each message says what failed, with which value, and what to do. Imports nothing of ours.

CellclfError
├── UnknownNameError        a backbone, data set, provider … that no table has
├── DataError               a data set, manifest or split that cannot be used
│   ├── DatasetMissingError     a named data set is not on this machine and cannot be fetched
│   └── BadImagesError          images that cannot be read, found before training starts
├── DecodeError             one image that cannot be read
├── WeightsError            pretrained weights that cannot be had or do not fit
├── RunError                a run folder that is missing, unfinished or does not match
├── StudyError              a study, scale or comparison that cannot be as asked
├── StoredFileError         a file of ours that is broken or of another version
├── EvaluationError         a figure, test or threshold that cannot be had from these predictions
├── ModelFileError          an exported file that is not one, or was changed
├── ParityError             an export whose numbers differ from the trained network's
├── InferenceError          a network that could not be run, or gave values that are no probabilities
├── VerificationError       an exported file that gives other numbers here than where it was made
├── ServingError            a service that cannot start as asked, or a request that it refuses
├── ProviderUnavailableError    an execution provider that was asked for and cannot be had
└── MissingExtraError       an optional part of the installation is not there
"""

__all__ = [
    "BadImagesError",
    "CellclfError",
    "DataError",
    "DatasetMissingError",
    "DecodeError",
    "EvaluationError",
    "InferenceError",
    "MissingExtraError",
    "ModelFileError",
    "ParityError",
    "ProviderUnavailableError",
    "RunError",
    "ServingError",
    "StoredFileError",
    "StudyError",
    "UnknownNameError",
    "VerificationError",
    "WeightsError",
]


class CellclfError(Exception):
    """Anything a user can put right; the command line shows its message as one line and exits with 1."""


class UnknownNameError(CellclfError):
    """A name that its table does not have; the message offers near names."""


class DataError(CellclfError):
    """A data set, manifest or split that cannot be used as asked."""


class DatasetMissingError(DataError):
    """A named data set that is not on this machine and could not be fetched."""


class BadImagesError(DataError):
    """Images that cannot be read; found before training starts."""


class DecodeError(CellclfError):
    """One image that cannot be read; the message is the reason without the path."""


class WeightsError(CellclfError):
    """Pretrained weights that cannot be had, or that do not fit the backbone."""


class RunError(CellclfError):
    """A run folder that is missing, unfinished, or made from something else."""


class StudyError(CellclfError):
    """A study, a scale, or a comparison that cannot be as it was asked for."""


class StoredFileError(CellclfError):
    """A stored document that is broken, or written by another version."""


class EvaluationError(CellclfError):
    """A figure, test or threshold that cannot be had from these predictions."""


class ModelFileError(CellclfError):
    """A file that is no cellclf model, or whose content was changed after export."""


class ParityError(CellclfError):
    """An exported network that does not give the trained network's numbers."""


class InferenceError(CellclfError):
    """A network that could not be run, or that gave values that are no probabilities."""


class VerificationError(CellclfError):
    """An exported file that does not give here what it gave where it was made."""


class ServingError(CellclfError):
    """A service that cannot start as it was asked to, or a request that it refuses."""


class ProviderUnavailableError(CellclfError):
    """An execution provider that was asked for and cannot be had on this machine."""


class MissingExtraError(CellclfError):
    """A part of the installation that is optional and absent."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed; install them with: pip install 'cellclf[{extra}]'")
