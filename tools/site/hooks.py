"""What mkdocs does beside its own work: pages from outside docs/ and from the program's help, links, formulas."""

import html
import os
import pathlib
import posixpath
import re
import shlex
import subprocess
import tomllib

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = shlex.split(os.environ.get("FLATNESS", "cargo run --release --quiet --"))
# Documents outside docs/ that become pages of the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benches/RESULTS.md": "speed.md",
    "benches/RESULTS-density.md": "densities.md",
    "experiments/RESULTS.md": "experiments-results.md",
    "tools/README.md": "tools.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
# As on GitHub: $`…`$ in a line, ```math around a block.
FORMULA = re.compile(r"\$`(.+?)`\$|^```math\n(.+?)\n```$", re.DOTALL | re.MULTILINE)


def on_config(config):
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    config.repo_url = os.environ.get("FLATNESS_REPOSITORY", manifest.get("repository", ""))
    return config


def on_files(files, config):
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    files.append(File.generated(config, "options.md", content=options()))
    return files


def on_page_markdown(markdown, page, config, files):
    source = SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = LINK.sub(lambda match: relinked(match, source, config, files), markdown)
    # Formulas wait outside the text until Markdown has done its work.
    page.formulas = [(line or block, "inline" if line else "block") for line, block in FORMULA.findall(markdown)]
    numbers = iter(range(len(page.formulas)))
    return FORMULA.sub(lambda _: f"formula-{next(numbers)}-here", markdown)


def on_page_content(content, page, **_):
    def formula(match):
        latex, display = page.formulas[int(match[1])]
        return convert(latex, display=display)

    return re.sub(r"formula-(\d+)-here", formula, content)


def relinked(match, source, config, files):
    """A link between files of the repository as one between pages, or to the repository."""
    text, link, anchor = match[1], match[2], match[3] or ""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    page = PAGES.get(target, target.removeprefix("docs/"))
    if files.get_file_from_path(page):
        return f"[{text}]({page}{anchor})"
    if not (ROOT / target).exists():
        raise PluginError(f"{source}: {link} does not exist")
    # Without the address of the repository, the text alone.
    return f"[{text}]({config.repo_url}/blob/main/{target})" if config.repo_url else text


def options():
    """Every command with all its options, as its own help has them."""
    overview = helped()
    commands = re.findall(r"^  ([a-z]+) ", overview.split("Commands:\n")[1].split("\n\n")[0], re.MULTILINE)
    page = ["# Commands and options", "This page is made from what `flatness COMMAND --help` prints."]
    for command in commands:
        if command != "help":
            page += [f"## flatness {command}", *described(helped(command))]
    return "\n\n".join(page)


def helped(*command):
    run = [*PROGRAM, *command, "--help"]
    # Wide enough that no line is broken.
    environment = os.environ | {"COLUMNS": "100000"}
    return subprocess.run(run, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def described(text):
    """A help text in Markdown: its headings, and its options as lists of terms."""
    for part in re.split(r"\n\n(?=\S)", text.strip()):
        first, _, rest = part.partition("\n")
        if not first.endswith(":"):
            yield f"```text\n{part}\n```" if part.startswith("Usage") else part
        elif first == "Examples:":
            yield f"**Examples**\n\n```sh\n{re.sub(r'^  ', '', rest, flags=re.MULTILINE)}\n```"
        else:
            yield f"**{first[:-1]}**"
            yield terms(rest)


def terms(text):
    """Options, indented by up to six columns, and what is said of each, by ten."""
    lines = ["<dl>"]
    for entry in re.split(r"\n\n(?= {2,6}\S)", text.strip("\n")):
        name, *about = entry.splitlines()
        said = [html.escape(line.strip()) for line in about if line.strip()]
        lines += [f"<dt><code>{html.escape(name.strip())}</code></dt>", f"<dd>{'<br>'.join(said)}</dd>"]
    return "\n".join([*lines, "</dl>"])
