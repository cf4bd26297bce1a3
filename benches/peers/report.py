"""Whether tools agree, and the Markdown table."""

import math
import statistics

# Of f32 against the f64 reference. Gradients and losses: relative. Quadratic forms: relative to |Hv| / |v|, of which
# they are about 1e-3, since the spectrum has both signs; ReLUs whose input is within rounding of zero move them by some
# 1e-6 of it. fSGLD's loss is at weights that every tool perturbs with its own random numbers.
TOLERANCES = {"gradient": 1e-3, "hvp": 1e-5, "step": 1e-3, "step:fsgld": 0.05}


def deviation(entry, reference):
    """The largest difference from the reference, in the unit of TOLERANCES; None where there is nothing to compare."""
    kind, _, detail = entry.job.partition(":")
    if kind not in reference or not entry.values:
        return None
    if kind == "step":
        expected = reference["step"][detail]  # of the first steps; later ones amplify rounding
        scale = min(map(abs, expected))
    elif kind == "hvp":
        expected = [sum(reference["hvp"][: entry.directions])] * len(entry.values)
        scale = math.hypot(*reference["hvp_scale"][: entry.directions])  # errors of directions are independent
    else:
        expected, scale = [reference[kind]] * len(entry.values), reference[kind]
    found = [abs(value - wanted) / scale for value, wanted in zip(entry.values, expected)]
    return max(found) if all(map(math.isfinite, found)) else math.inf


def checked_as(entry):
    """The key of TOLERANCES."""
    return entry.job if entry.job in TOLERANCES else entry.job.partition(":")[0]


def disagrees(entry):
    return entry.deviation is not None and entry.deviation > TOLERANCES[checked_as(entry)]


def table(rows):
    header = ["row", "tool", "job", "K", "median s", "min", "max", "against", "ratio", "ratio by rounds", "peak MB"]
    lines = ["| " + " | ".join(header) + " |", "| --- | --- | --- | --: | --: | --: | --: | --- | --: | --: | --: |"]
    for row in rows:
        by_name = {entry.name: entry for entry in row.entries}
        for entry in row.entries:
            lines += ["| " + " | ".join(cells) + " |" for cells in entry_lines(row, entry, by_name)]
    return "\n".join(lines)


def entry_lines(row, entry, by_name):
    """One line of cells, and one more for each further entry that this one is divided by."""
    details = ", ".join(filter(None, [entry.note, f"threads {entry.threads}" if entry.threads else ""]))
    tool = f"{entry.tool} {entry.version}".strip() + (f" ({details})" if details else "")
    if disagrees(entry):
        tool += f" **disagrees: {entry.deviation:.1e} off**"
    job, _, detail = entry.job.partition(":")
    start = [row.name, tool, job, detail] if job == "hvp" else [row.name, tool, entry.job.replace(":", " "), ""]
    if entry.error:
        return [[*start, entry.error.replace("|", "/"), *[""] * 6]]
    seconds = entry.seconds()
    # With one cold call there is a memory to report, but no time.
    times = [f"{f(seconds):.4g}" for f in (statistics.median, min, max)] if row.kind != "memory" else [""] * 3
    lines = []
    for base in [by_name[other] for other in entry.against] or [None]:
        ratios = [base.name, *ratio_cells(seconds, base.seconds())] if base and not base.error else [""] * 3
        lines.append([*start, *times, *ratios, f"{entry.peak_mb():.0f}"])
    return [lines[0], *([*start, "", "", "", *line[7:10], ""] for line in lines[1:])]


def ratio_cells(own, base):
    medians = statistics.median(own) / statistics.median(base)
    by_rounds = statistics.median(a / b for a, b in zip(own, base))
    return f"{medians:.2f}", f"{by_rounds:.2f}"


def agreement(rows):
    """One line for each kind of value: how far the farthest tool is from the float64 reference."""
    lines = []
    for kind, tolerance in TOLERANCES.items():
        compared = [
            (entry.deviation, f"{entry.name}, {row.name}")
            for row in rows for entry in row.entries
            if entry.deviation is not None and checked_as(entry) == kind
        ]  # fmt: skip
        if compared:
            largest, where = max(compared)
            unit = " of \\|Hv\\| / \\|v\\|" if kind == "hvp" else ""
            words = f"{largest:.1e}{unit} ({where}), {tolerance:g} allowed"
            lines.append(f"- {kind}: farthest from the float64 reference by {words}")
    return "\n".join(lines)


def report(rows, facts):
    lines = [table(rows), "", agreement(rows), "", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"
