"""Measure the audit and write docs/results/audit.json and audit.md. `make results-audit`; needs CELLCLF_DATA. About 20 minutes on 2 cores.

Truth is made here: one image of each group of the blood cells, and one of each patient of the chest X-rays, are held apart as originals,
copies of them are drawn with known parameters, and the audit must tell from the pixels which copies belong together. Neither class folders nor
file names have a say. Then the real sets are audited as they are.

    python -m benchmarks.audit_accuracy [--only PART …]     parts: published, difficulties, chest, blood-cells, chest-xray
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.audit_page import write_page
from benchmarks.augmenting import AS_PUBLISHED, DIFFICULTIES, Difficulty, augmented
from cellclf.data.audit.families import Families, find_families
from cellclf.data.cache import hash_files
from cellclf.data.scan import Scan, scan
from cellclf.environment import Environment
from cellclf.storage import sha256_of_file

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
SEED = 0
FEWER_ORIGINALS, FEWER_COPIES = 120, 12
CHEST_ORIGINALS, CHEST_COPIES = 400, 6
FILES_OF_THE_SET = 12_444
OF_CHESTS = [row for row in DIFFICULTIES if row == AS_PUBLISHED or row.name in ("flips only", "any turn", "brightness 0.7 to 1.3")]


def timed(file_of: dict[str, Path]) -> tuple[Families, dict[str, Any]]:
    """Families, and what finding them cost: wall and processor seconds, all in, each stage's start, and how busy the machine was before."""
    starts: dict[str, float] = {}
    before = os.getloadavg()[0]
    wall, processor = time.perf_counter(), time.process_time()

    def note(stage: str, _done: int, _total: int) -> None:
        starts.setdefault(stage, round(time.perf_counter() - wall, 2))

    found = find_families(file_of, on_progress=note)
    cost = {
        "files": len(file_of),
        "wall_s": round(time.perf_counter() - wall, 2),
        "processor_s": round(time.process_time() - processor, 2),
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "stage_reported_first_s": starts,
    }
    return found, cost


def pairs_in(sizes: Sequence[int]) -> int:
    """Pairs within parts of these sizes."""
    return sum(size * (size - 1) // 2 for size in sizes)


def pair_figures(truth: dict[str, int], found: dict[str, str]) -> dict[str, Any]:
    """Recall and precision over all pairs of files of one original."""
    both = Counter((truth[content], found[content]) for content in truth)
    right = pairs_in(list(both.values()))
    true = pairs_in(list(Counter(truth.values()).values()))
    told = pairs_in(list(Counter(found[content] for content in truth).values()))
    return {"pairs": true, "reported": told, "right": right, "recall": right / true, "precision": right / told if told else None}


def originals_of_cells(source: Scan) -> list[Path]:
    """The file of each group with the most picture and the least fill; groups, not families, so that no two show one field."""
    files = [source.root / file.path for file in source.files]
    hashes = [str(content) for content in hash_files(files)]
    groups = find_families(dict(zip(hashes, files, strict=True))).group_of
    best: dict[str, tuple[int, str, Path]] = {}
    for content, file in zip(hashes, files, strict=True):
        candidate = (_fill(file), content, file)
        best[groups[content]] = min(best.get(groups[content], candidate), candidate)
    return [best[group][2] for group in sorted(best)]


def originals_of_chests(source: Scan) -> list[Path]:
    """One X-ray of each patient, by content."""
    first: dict[str, Path] = {}
    for file in source.files:
        first.setdefault(file.group, source.root / file.path)
    return [path for _, path in sorted((sha256_of_file(path), path) for path in first.values())]


def _fill(file: Path) -> int:
    with Image.open(file) as image:
        return int((np.asarray(image.convert("L")) <= 14).sum())


def measure(originals: Sequence[Path], copies: Sequence[int], difficulty: Difficulty, strangers: Sequence[Path] = ()) -> dict[str, Any]:
    """Draw copies of each original, mix in strangers that belong to none, let the audit find the families, and count pairs."""
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        truth: dict[str, int] = {}
        file_of: dict[str, Path] = {}
        for number, (original, count) in enumerate(zip(originals, copies, strict=True)):
            with Image.open(original) as opened:
                image = opened.convert("RGB")
            for _ in range(count):
                path = Path(folder) / f"{rng.integers(2**60):x}.jpeg"
                path.write_bytes(augmented(image, difficulty, rng))
                content = sha256_of_file(path)
                truth[content], file_of[content] = number, path
        for number, stranger in enumerate(strangers, start=len(originals)):
            content = sha256_of_file(stranger)
            truth[content], file_of[content] = number, stranger
        found, cost = timed(file_of)
    figures = pair_figures(truth, found.family_of)
    print(
        f"{difficulty.name}: recall {figures['recall']:.4f} precision {figures['precision']:.4f}, {cost['wall_s']} s for {cost['files']} files",
        flush=True,
    )
    return {
        "difficulty": difficulty.name,
        "originals": len(originals),
        "strangers": len(strangers),
        "families": len(set(found.family_of.values())),
        "by_family": figures,
        "by_group": pair_figures(truth, found.group_of),
        "cost": cost,
    }


def family_sizes(originals: int) -> list[int]:
    """Sizes like the real set's: half of the files in few large families, summing to the set's size."""
    weights = np.random.default_rng(SEED).choice([155, 92, 33, 16], originals, p=[0.057, 0.095, 0.253, 0.595])
    shares = weights / weights.sum() * FILES_OF_THE_SET
    edges = np.rint(np.concatenate([[0], np.cumsum(shares)])).astype(int)
    return [int(high - low) for low, high in pairwise(edges)]


def real(name: str) -> dict[str, Any]:
    """Audit a real set as it is: families, groups, what crosses the official split, what is under two labels."""
    source = scan(name)
    files = [source.root / file.path for file in source.files]
    start = time.perf_counter()
    hashes = [str(content) for content in hash_files(files)]
    hashing = round(time.perf_counter() - start, 2)
    found, cost = timed(dict(zip(hashes, files, strict=True)))
    again = find_families(dict(zip(reversed(hashes), reversed(files), strict=True)))
    result: dict[str, Any] = {
        "name": name,
        "files": len(files),
        "byte_identical": len(files) - len(set(hashes)),
        "hashing_s": hashing,
        "cost": cost,
        "same_in_reverse_order": again == found,
    }
    for kind, of in (("families", found.family_of), ("groups", found.group_of)):
        members = defaultdict(list)
        for content, file in zip(hashes, source.files, strict=True):
            members[of[content]].append(file)
        sizes = sorted(len(part) for part in members.values())
        crossing = [part for part in members.values() if len({file.split for file in part}) > 1]
        result[kind] = {
            "number": len(members),
            "alone": sizes.count(1),
            "smallest": sizes[0],
            "median": int(np.median(sizes)),
            "largest": sizes[-1],
            "crossing_the_split": len(crossing),
            "crossing_files": {split: sum(file.split == split for part in crossing for file in part) for split in ("train", "test")},
            "under_two_labels": sum(len({file.label for file in part}) > 1 for part in members.values()),
            "of_each_label": dict(Counter(part[0].label for part in members.values())),
        }
    if all(file.group for file in source.files):
        patients = dict(zip(hashes, (file.group for file in source.files), strict=True))
        result["pairs"] = len(found.copies)
        result["pairs_of_two_patients"] = sum(patients[copy.first] != patients[copy.second] for copy in found.copies)
    print(name, json.dumps({kind: result[kind] for kind in ("families", "groups")}), cost["wall_s"], flush=True)
    return result


def main() -> None:
    """Measure the parts that were asked for and write both files."""
    parts = ("published", "difficulties", "chest", "blood-cells", "chest-xray")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    chosen = parser.parse_args().only
    target = RESULTS / "audit.json"
    results = json.loads(target.read_text()) if target.exists() else {}
    cells = originals_of_cells(scan("blood-cells")) if {"published", "difficulties"} & set(chosen) else []
    if "published" in chosen:
        results["published"] = measure(cells, family_sizes(len(cells)), AS_PUBLISHED)
    if "difficulties" in chosen:
        some = [cells[number] for number in np.random.default_rng(SEED).permutation(len(cells))[:FEWER_ORIGINALS]]
        results["difficulties"] = [measure(some, [FEWER_COPIES] * len(some), difficulty) for difficulty in DIFFICULTIES]
    if "chest" in chosen:
        chests = originals_of_chests(scan("chest-xray"))
        originals, strangers = chests[:CHEST_ORIGINALS], chests[CHEST_ORIGINALS:]
        results["chest"] = [measure(originals, [CHEST_COPIES] * len(originals), difficulty, strangers) for difficulty in OF_CHESTS]
    for name in ("blood-cells", "chest-xray"):
        if name in chosen:
            results[name] = real(name)
    results["environment"] = Environment.of_this_machine().model_dump()
    RESULTS.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=2) + "\n")
    write_page(results, RESULTS / "audit.md")


if __name__ == "__main__":
    main()
