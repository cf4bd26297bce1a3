"""What is run: the rows of the comparison and their entries."""

from dataclasses import dataclass, field, replace

MEMORY_IMAGES = 10_000
# Networks of many kinds, with their rows.
PROGRAMS = [("resnet18", 64), ("vit", 32), ("gpt", 8), ("convnext", 16), ("mobilenetv3", 32)]


@dataclass
class Entry:
    """A tool with a job, what the table divides it by, and what became of it."""

    tool: str
    job: str
    against: tuple = ()
    threads: int | None = None
    version: str = ""
    note: str = ""
    error: str = ""
    answers: list = field(default_factory=list)  # of timed rounds
    values: list = field(default_factory=list)  # of all calls, the warm-up's first
    deviation: float | None = None

    @property
    def name(self):
        return f"{self.tool} {self.job}" + (f" --threads {self.threads}" if self.threads else "")

    @property
    def directions(self):
        return int(self.job.partition(":")[2]) if self.job.startswith("hvp:") else 1

    def seconds(self):
        """Per direction, one for each round."""
        return [answer["seconds"] / self.directions for answer in self.answers]

    def peak_mb(self):
        return max(answer["peak_bytes"] for answer in self.answers) / 1e6


@dataclass
class Row:
    """Tools that take turns on one batch."""

    name: str
    model: str
    batch: int
    entries: list
    kind: str = "curvature"  # of the prepared files: curvature, step or memory


def copies(entries):
    """Of entries that are to be measured for another network."""
    return [replace(entry, answers=[], values=[]) for entry in entries]


def hvp_row(model, batch, peers):
    entries = [Entry("flatness", "hvp:8"), Entry("flatness", "hvp:1", ("flatness hvp:8",))]
    for tool, *counts in peers:
        for k in counts:
            against = ("flatness hvp:8", "flatness hvp:1") if k == 1 else ("flatness hvp:8",)
            entries.append(Entry(tool, f"hvp:{k}", against))
    return Row(f"{model} hvp", model, batch, entries)


def step_row(model, batch):
    entries = [Entry("flatness", "step:sgd")]
    entries += [Entry("flatness", f"step:{o}", ("flatness step:sgd",)) for o in ("sam", "fsgld")]
    entries += [Entry("torch", f"step:{o}", (f"flatness step:{o}",)) for o in ("sgd", "sam", "fsgld")]
    return Row(f"{model} step", model, batch, entries, "step")


def all_rows(threads):
    """The whole comparison, for tools with `threads` threads each."""
    peers = [
        ("pyhessian-loader", 1), ("pyhessian-batch", 1), ("curvlinops", 1, 4, 8), ("hessian-eigenthings", 1),
        ("torch.func", 1, 8),
    ]  # fmt: skip
    gradient = [
        Entry("flatness", "gradient"), Entry("torch", "gradient", ("flatness gradient",)),
        Entry("flatness", "hvp:8", ("flatness gradient",)),
    ]  # fmt: skip
    scaling = []  # empty where there is nothing to scale
    for job in ("hvp:8", "gradient") if threads > 1 else ():
        scaling.append(Entry("flatness", job, threads=threads))
        scaling.append(Entry("flatness", job, (scaling[-1].name,), threads=1))
    rows = [
        hvp_row("resnet20", 200, peers),
        Row("resnet20 gradient", "resnet20", 200, copies(gradient)),
        hvp_row("mlp", 512, peers),
        *(hvp_row(model, batch, peers) for model, batch in PROGRAMS),
        *(Row(f"{model} gradient", model, batch, copies(gradient[:2])) for model, batch in [*PROGRAMS, ("mlp", 512)]),
        hvp_row("resnet8", 200, [("pyhessian-loader", 1), ("torch.func", 1, 8)]),
        step_row("resnet20", 128),
        *(step_row(model, batch) for model, batch in [("resnet18", 128), *PROGRAMS[1:4]]),
        Row("resnet20 threads", "resnet20", 200, scaling),
        Row("resnet20 memory", "resnet20", MEMORY_IMAGES, [Entry("flatness", "hvp:8")], "memory"),
    ]
    return [row for row in rows if row.entries]
