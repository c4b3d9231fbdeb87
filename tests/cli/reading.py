"""What the command-line tests share: reading what a command printed."""

from tests.conftest import Completed

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9") | {"no_proxy": "", "NO_PROXY": ""}
"""Environment under which every download fails at once: a proxy at the discard port."""


def error_line(done: Completed, *, code: int = 1) -> str:
    """The one line with which a command failed; asserts that it is one, the last on stderr, without a traceback, and that there is no result."""
    assert done.code == code, done
    assert "Traceback" not in done.err, done.err
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("cellclf: ")]
    assert len(lines) == 1, done.err
    assert done.err.rstrip("\n").splitlines()[-1] == lines[0]
    return lines[0]


def table_rows(text: str, *headings: str) -> list[list[str]]:
    """The cells of a printed table, cut where its headings begin; asserts that the heading is there."""
    lines = text.splitlines()
    number = next(index for index, line in enumerate(lines) if line.split() == list(headings))
    starts = [lines[number].index(heading) for heading in headings]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines[number + 1 :] if line.strip()]
