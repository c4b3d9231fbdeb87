"""Training in bf16: Keras on JAX beside compiled PyTorch, what of the targets is reached, and depthwise convolutions in two ways."""

from typing import Any

from benchmarks.gpu.record import Result, title
from benchmarks.gpu.sittings import NOT_YET

__all__ = ["depthwise_lines", "training_lines"]

TARGET_TRAINING, TARGET_INPUT = 0.8, 0.02


def training_lines(results: dict[str, Result]) -> list[str]:
    """A table a sitting, and the verdicts on the targets."""
    if not results:
        return [f"Keras on JAX against compiled PyTorch: {NOT_YET}."]
    rows = [row for result in results.values() for row in result.rows]
    lines = [line for name, result in results.items() for line in (f"{name}:", "", *_training_table(result), "")]
    return [
        *lines,
        f"Targets: ≥ {TARGET_TRAINING} of compiled PyTorch{_judged_pairs(results)}; the input's share below {TARGET_INPUT:.0%}"
        f"{_judged_inputs(rows)}.",
        "Keras' windows are the study's epochs, its speed their median; the input's share is at most that of bringing a batch together alone.",
        "Where windows differ, others' compilers ran meanwhile (`--hold-s` lets them end first); a target is then called reached only if it is so",
        "against PyTorch's fastest window.",
    ]


def _training_table(result: Result) -> list[str]:
    plain = {(row["backbone"], row["engine"], row["batch"]): row["plain"] for row in result.rows if "per_second" in row.get("plain", {})}
    lines = [
        "| backbone | batch | engine | images/s | ÷ torch.compile | compile s | input's share | augmentation's share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        own, peer = (plain.get((row["backbone"], engine, row["batch"])) for engine in (row["engine"], "torch.compile"))
        start = f"| {title(row['backbone'])} | {row['batch']} | {row['engine']} |"
        if own is None:
            lines.append(f"{start} invalid: {str(row.get('stopped') or row.get('plain', {}).get('invalid')).replace('|', '/')} |||||")
            continue
        shares = " | ".join(f"{row[name]:.1%}" if name in row else "" for name in ("input_share", "augmentation_share"))
        ratio = f"{own['per_second'] / peer['per_second']:.2f}" if peer and row["engine"] != "torch.compile" else ""
        ratio += " (not a fair pair)" if ratio and not (own.get("agree", True) and peer and peer.get("agree", True)) else ""
        unsteady = "" if own.get("agree", True) else f" (windows differ: {min(own['windows'][1:]):,.0f} to {max(own['windows']):,.0f})"
        note = f", {row['note']}" if "note" in row else ""
        lines.append(f"{start} {own['per_second']:,.0f}{unsteady}{note} | {ratio} | {own['compile_s']:.0f} | {shares} |")
    return lines


def _judged_pairs(results: dict[str, Result]) -> str:
    """What is reached by backbone, each against the peer of its own sitting; against its fastest window where one of the two was disturbed."""
    judged: dict[str, str] = {}
    for result in results.values():
        speeds = {(row["engine"], row["backbone"]): row["plain"] for row in result.rows if "per_second" in row.get("plain", {})}
        for (engine, backbone), own in speeds.items():
            peer = speeds.get(("torch.compile", backbone))
            if engine == "torch.compile" or peer is None:
                continue
            fair = own.get("agree", True) and peer.get("agree", True)
            against = peer["per_second"] if fair else max(peer["windows"])
            reached = own["per_second"] >= TARGET_TRAINING * against
            verdict = "reached" if reached else "MISSED" if fair else "not told, one of the two was disturbed"
            if judged.get(backbone) != "reached":
                judged[backbone] = verdict
    told = ", ".join(f"{title(backbone)} {verdict}" for backbone, verdict in judged.items())
    return f" ({told}; the others {NOT_YET})" if told else ""


def _judged_inputs(rows: list[dict[str, Any]]) -> str:
    shares = [row["input_share"] for row in rows if "input_share" in row]
    return f" ({'reached' if max(shares) < TARGET_INPUT else 'MISSED'}, at most {max(shares):.1%})" if shares else ""


def depthwise_lines(result: Result | None) -> list[str]:
    """Milliseconds of a grouped convolution and of a sum of shifted products, shape by shape."""
    if result is None:
        return [f"XLA's grouped convolution against a sum of shifted products: {NOT_YET}."]
    lines = ["| batch, px, channels, stride | grouped, ms | shifted, ms |", "|---|---|---|"]
    for grouped, shifted in zip(result.rows[::2], result.rows[1::2], strict=True):
        lines.append(f"| {', '.join(map(str, grouped['shape']))} | {grouped['ms']:.2f} | {shifted['ms']:.2f} |")
    return [*lines, "", "Forwards and backwards in bf16. The study computes strided ones as shifted products, the others as XLA does."]
