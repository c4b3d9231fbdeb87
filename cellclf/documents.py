"""The base of every stored JSON document. Imports storage and errors only."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cellclf.errors import StoredFileError
from cellclf.storage import new_file

__all__ = ["Document"]


class Document(BaseModel):
    """A stored JSON document: immutable, no unknown fields, written whole, read with one clear error; its validator is built on first use."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)

    def write(self, path: Path) -> None:
        """Write as indented JSON."""
        with new_file(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def parse(cls, text: str, *, where: str) -> Self:
        """Read from JSON text; raises StoredFileError naming `where` and the first field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "document"
            raise StoredFileError(f"{where} cannot be read: {field}: {first['msg']} (written by another version, or damaged)") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read from a file; raises StoredFileError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoredFileError(f"{path} cannot be read: {error}") from error
        return cls.parse(text, where=str(path))
