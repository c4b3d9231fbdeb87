"""Fat binaries made here: only other generations' code is blanked, byte by byte where it lay."""

import struct
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu.slim import blank_other_generations, slim_wheel


def entry(generation: int, payload: bytes) -> bytes:
    return struct.pack("<HHIQ", 2, 257, 64, len(payload)) + struct.pack("<12I", 0, 0, 0, generation, *[0] * 8) + payload


def fat_binary(*entries: bytes) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


CODE = fat_binary(entry(75, b"a" * 32), entry(90, b"h" * 24), entry(120, b"z" * 40))


def test_code_of_other_generations_is_blanked_and_all_else_is_as_it_was() -> None:
    before = b"head" + struct.pack("<I", 0xBA55ED50) + b"by chance......." + CODE + b"between" + fat_binary(entry(90, b"k" * 8)) + b"tail"
    content = bytearray(before)
    assert blank_other_generations(content, generation=90) == 72
    assert bytes(content) == before.replace(b"a" * 32, bytes(32)).replace(b"z" * 40, bytes(40))


def test_a_wheel_is_unpacked_without_what_is_not_loaded(tmp_path: Path) -> None:
    wheel = tmp_path / "onnxruntime_gpu-1-py3.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("onnxruntime/capi/libonnxruntime_providers_cuda.so", CODE)
        archive.writestr("onnxruntime/capi/libonnxruntime.so.1", b"big")
        archive.writestr("onnxruntime/__init__.py", b"")
    assert slim_wheel(wheel, tmp_path / "out") == 72
    found = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"libonnxruntime_providers_cuda.so", "__init__.py"}


def test_a_wheel_in_which_nothing_was_found_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("onnxruntime/capi/libonnxruntime_providers_cuda.so", fat_binary(entry(90, b"h" * 24)))
    with pytest.raises(ValueError, match="no machine code of another generation than 90"):
        slim_wheel(wheel, tmp_path / "out")
