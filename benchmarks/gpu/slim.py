"""Make ONNX Runtime's CUDA wheel small enough to carry: blank the machine code of other GPU generations, leave out what is not loaded.

What runs on the measured GPU is untouched: the driver takes the code of its own generation and never reads the rest.
"""

import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["blank_other_generations", "slim_wheel"]

GENERATION = 90
"""Hopper: H100 and H200."""
_MAGIC = 0xBA55ED50
_LEFT_OUT = ("libonnxruntime.so", "libonnxruntime_providers_tensorrt.so")
"""The C library, which Python's module has inside, and a provider whose libraries are not there."""


def slim_wheel(wheel: Path, folder: Path, *, generation: int = GENERATION) -> int:
    """Unpack a wheel into folder, slimmed; returns the bytes of machine code that were blanked. Raises ValueError where nothing was."""
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not Path(name).name.startswith(_LEFT_OUT):
                archive.extract(name, folder)
    blanked = 0
    for library in folder.rglob("*providers_cuda*.so"):
        content = bytearray(library.read_bytes())
        blanked += blank_other_generations(content, generation=generation)
        library.write_bytes(content)
    if not blanked:
        raise ValueError(f"{wheel.name}: no machine code of another generation than {generation} was found")
    return blanked


def blank_other_generations(content: bytearray, *, generation: int) -> int:
    """Overwrite with zeros, in a shared library's bytes, each entry of its fat binaries that is for another compute capability (90 = 9.0)."""
    blanked = 0
    for start, size, found in list(_entries(content)):
        if found != generation:
            content[start : start + size] = bytes(size)
            blanked += size
    return blanked


def _entries(content: bytearray) -> Iterator[tuple[int, int, int]]:
    """(offset, bytes, compute capability) of every entry's payload.

    A fat binary: magic u32, version u16, header bytes u16, size of all entries u64; an entry: kind u16, version u16, header bytes u32, payload
    bytes u64, 12 bytes, compute capability u32, and more.
    """
    position = content.find(_MAGIC.to_bytes(4, "little"))
    while position >= 0:
        _, version, header, size = struct.unpack_from("<IHHQ", content, position)
        if version != 1 or header != 16 or position + header + size > len(content):
            position = content.find(_MAGIC.to_bytes(4, "little"), position + 4)  # these four bytes by chance
            continue
        entry, end = position + header, position + header + size
        while entry < end:
            _, _, header, payload = struct.unpack_from("<HHIQ", content, entry)
            yield entry + header, payload, struct.unpack_from("<I", content, entry + 28)[0]
            entry += header + payload
        position = content.find(_MAGIC.to_bytes(4, "little"), end)
