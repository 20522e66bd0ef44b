"""One file out of a multipart body, written as it arrives: nothing is spooled, nothing grows in memory."""

from __future__ import annotations

from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from overproof.gateway.bodies import too_large
from overproof.shared.errors import RecipeError

MAX_FIELD_BYTES = 16_384
MAX_PARTS = 16


class UploadParser:
    """Feed it the body; the part named `file` goes to `target`, the others become `fields`.

    Raises RecipeError for a body that is not multipart or holds no single file, TooLarge.
    """

    def __init__(self, content_type: str, target: BinaryIO, limit: int) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise RecipeError("The multipart body names no boundary.", "Let the HTTP client set Content-Type.")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.n_bytes = 0
        self._target, self._limit = target, limit
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name, self._is_file = "", False
        self._field = bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RecipeError(f"The multipart body is broken: {type(error).__name__}.", "Send it again.") from None

    def finish(self) -> str:
        """After the last byte: the file's name."""
        if not self._ended:
            raise RecipeError("The multipart body ends too early.", "Send it again.")
        if self.filename is None:
            raise RecipeError("The form has no part named `file`.", "Send the data set as `file`.")
        return self.filename

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RecipeError(f"The form has more than {MAX_PARTS} parts.", "Send one file and its few fields.")
        self._headers, self._header, self._value = {}, b"", b""
        self._name, self._is_file, self._field = "", False, bytearray()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise too_large(MAX_FIELD_BYTES)

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if not self._is_file:
            return
        if self._name != "file" or self.filename is not None:
            raise RecipeError("The form must hold one file, named `file`.", "Upload data sets one by one.")
        self.filename = options[b"filename"].decode("utf-8", "replace")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.n_bytes += end - start
            if self.n_bytes > self._limit:
                raise too_large(self._limit)
            self._target.write(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > MAX_FIELD_BYTES:
            raise too_large(MAX_FIELD_BYTES)

    def _on_part_end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._ended = True
