"""multipart/form-data → images with their names, as the pieces come, under limits. Imports refusals only; parses with python-multipart."""

from collections.abc import Collection

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cellclf.serving.refusals import RefusedError

__all__ = ["ImageParts", "boundary_of"]

_MAX_HEADER_BYTES = 4096
_MAX_HEADERS = 16


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a multipart/form-data body, None where it is of another type; raises RefusedError 400 where there is none."""
    kind, options = parse_options_header(content_type.decode("latin-1"))
    if kind != b"multipart/form-data":
        return None
    if not options.get(b"boundary"):
        raise RefusedError(400, "multipart/form-data without a boundary", reason="multipart")
    return options[b"boundary"]


class ImageParts:
    """Every part is an image; its name is the file name given, else the field's. options: names of fields that people mean otherwise.

    feed each piece of a body, then take `images`. Raises RefusedError 400 for what is no such body, 413 for too many images, 422 for an option.
    """

    def __init__(self, boundary: bytes, *, max_images: int, options: Collection[str] = ()) -> None:
        self._max_images, self._options = max_images, options
        self._images: list[tuple[str, bytearray]] = []
        self._ended = False
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._parser = self._made(boundary)

    def feed(self, piece: bytes) -> None:
        """The next piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise RefusedError(400, "the body is not multipart/form-data with the boundary it names", reason="multipart") from error

    def images(self) -> list[tuple[str, bytes]]:
        """Names and contents, in order, when the body has ended."""
        if not self._ended:
            raise RefusedError(400, "the multipart body is cut short", reason="multipart")
        if not self._images:
            raise RefusedError(400, "the multipart body holds no image", reason="multipart")
        return [(name, bytes(content)) for name, content in self._images]

    def forget(self) -> None:
        """Let go of the images: the parser and this object hold each other, so that Python would keep both for a while."""
        self._images = []

    def _made(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_part_data": self._on_part_data,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_end": self._on_end,
                },
                max_header_count=_MAX_HEADERS,
                max_header_size=_MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise RefusedError(400, "the multipart boundary is too long", reason="multipart") from error

    def _on_part_begin(self) -> None:
        if len(self._images) == self._max_images:
            raise RefusedError(413, f"more than {self._max_images} images in one request", reason="images", close=True)
        self._header_name = self._header_value = self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        name = (options.get(b"filename") or options.get(b"name") or b"").decode("utf-8", errors="replace")
        if b"filename" not in options and name in self._options:
            raise RefusedError(422, f"the field {name} is no image; options go into the address: ?{name}=…", reason="query", close=True)
        self._images.append((name, bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._images[-1][1].extend(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self._ended = True
