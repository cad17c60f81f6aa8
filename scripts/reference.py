"""The generated pages of the documentation: commands from parsers, methods and metrics from classes, Python from docstrings.

Nothing here is a list that has to be kept in step: parsers, registries and `__all__` are the source.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import xai_exporters

import xai_deploy.agreement.compare
import xai_deploy.agreement.recording
import xai_deploy.answer
import xai_deploy.benchmark
import xai_deploy.errors
import xai_deploy.evaluation
import xai_deploy.monitor
import xai_deploy.records
from xai_deploy.backends import backends
from xai_deploy.cli.arguments import describe_options
from xai_deploy.evaluation.metrics import metrics
from xai_deploy.foundation.registry import Registry
from xai_deploy.methods import methods
from xai_deploy.targets import kinds

PYTHON: dict[str, tuple[str, tuple[ModuleType, ...]]] = {
    "explaining": ("Explaining", (xai_deploy, xai_deploy.answer)),
    "errors": ("Errors", (xai_deploy.errors,)),
    "evaluation": ("Evaluation", (xai_deploy.evaluation,)),
    "benchmark": ("Benchmark", (xai_deploy.benchmark,)),
    "agreement": ("Agreement", (xai_deploy.agreement.compare, xai_deploy.agreement.recording)),
    "records": ("Records", (xai_deploy.records,)),
    "monitor": ("Monitor", (xai_deploy.monitor,)),
    "exporters": ("Exporting", (xai_exporters,)),
}
"""Page -> its title, and the modules whose public names it shows."""


def pages(parsers: dict[str, argparse.ArgumentParser]) -> dict[str, str]:
    """Path below the site's pages -> Markdown.

    Args:
        parsers: The parser of each command.
    """
    made = {f"reference/{name}.md": command(parser) for name, parser in parsers.items()}
    made |= {f"reference/python/{page}.md": python(*shown) for page, shown in PYTHON.items()}
    made["reference/methods.md"] = registered("Methods", methods, needs)
    made["reference/metrics.md"] = registered("Metrics", metrics)
    made["reference/targets.md"] = registered("Kinds of targets", kinds)
    made["reference/backends.md"] = registered("Backends", backends)
    return made


def command(parser: argparse.ArgumentParser) -> str:
    """A command's page: description, usage, options by group, examples."""
    lines = [
        f"# {parser.prog}",
        "",
        plain(parser.description or ""),
        "",
        "```text",
        parser.format_usage().strip(),
        "```",
    ]
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if not actions:
            continue
        lines += ["", f"## {(group.title or '').capitalize()}", ""]
        for action in actions:
            formatter._current_indent = 0
            name = formatter._format_action_invocation(action)
            text = formatter._expand_help(action) if action.help else ""
            lines.append(f"- `{name}`" + (f": {plain(text)}" if text else ""))
    if parser.epilog:
        lines += ["", "## More", "", "```text", (parser.epilog % {"prog": parser.prog}).strip(), "```"]
    return "\n".join(lines) + "\n"


def python(title: str, modules: Iterable[ModuleType]) -> str:
    """A page of docstrings, rendered by mkdocstrings."""
    lines = [f"# {title}"]
    for module in modules:
        lines += ["", f"## {module.__name__}", "", paragraphs(module.__doc__)]
        lines += [line for name in public(module) for line in ("", f"::: {module.__name__}.{name}")]
    return "\n".join(lines) + "\n"


def public(module: ModuleType) -> list[str]:
    """`__all__`, or the classes and functions that the module defines and does not hide."""
    names = getattr(module, "__all__", None)
    if names is not None:
        return list(names)
    own = (n for n, item in vars(module).items() if getattr(item, "__module__", None) == module.__name__)
    return [name for name in own if not name.startswith("_") and callable(getattr(module, name))]


def registered(title: str, registry: Registry[Any], note: Callable[[Any], str] | None = None) -> str:
    """A page with one section for each name: source, docstring, and the options of what has some."""
    lines = [f"# {title}"]
    for name in registry:
        item = registry.get(name)
        lines += ["", f"## {name}", "", f"*{plain(first_line(inspect.getmodule(item)))}*", "", docstring(item)]
        if note is not None:
            lines += ["", note(item)]
        if takes_options(item):
            lines += ["", "```text", *options(name, item), "```"]
    return "\n".join(lines) + "\n"


def takes_options(item: Any) -> bool:
    """Whether its fields are options of a user: each has a default."""
    fields = dataclasses.fields(item) if dataclasses.is_dataclass(item) else ()
    return bool(fields) and all(field.default is not dataclasses.MISSING for field in fields)


def options(name: str, item: Any) -> Iterator[str]:
    """The options of a method or metric, as --list-methods prints them."""
    return (line.strip() for line in describe_options(name, item) if line.strip() != name)


def needs(method: Any) -> str:
    """The graphs that a method needs, and how often it runs the network."""
    roles = method().roles
    graphs = ", ".join(f"`{role}` ({plain(advice)})" for role, advice in roles.items()) or "head and tail alone"
    return f"Needs: {graphs}. Cost in inferences of the network: {plain(method.passes)}."


def docstring(item: Any) -> str:
    """Its docstring: the text, then the sections in the form of a list."""
    text = inspect.getdoc(item) or ""
    main, *sections = re.split(r"^(Attributes|Raises|Args|Returns):\n", text, flags=re.MULTILINE)
    lines = [paragraphs(main)]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        if heading == "Attributes" and not takes_options(item):
            continue  # of the code's own use
        entries = re.sub(r"\n[ ]{8,}", " ", body.rstrip())
        lines += ["", f"{'Options' if heading == 'Attributes' else heading}:", ""]
        for entry in filter(None, map(str.strip, entries.splitlines())):
            name, _, meaning = entry.partition(":")
            lines.append(f"- `{name}`: {plain(meaning.strip())}")
    return "\n".join(lines)


def paragraphs(text: str | None) -> str:
    """Text of a docstring as Markdown: its paragraphs, without a meaning for its stars and brackets; drawings stay drawings."""
    parts = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(f"```text\n{part}\n```" if drawn(part) else plain(part) for part in parts)


def drawn(part: str) -> bool:
    """Whether a paragraph is a drawing or code, whose lines must stay lines."""
    return "──" in part or part.startswith("from ")


def plain(text: str) -> str:
    """The text, with the characters that mean something to Markdown and HTML escaped outside `code`."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if i % 2 else _escape(piece) for i, piece in enumerate(pieces))


def _escape(text: str) -> str:
    return re.sub(r"([*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def first_line(module: ModuleType | None) -> str:
    """The first line of a module's docstring: the paper."""
    return ((module.__doc__ if module else None) or "").strip().partition("\n")[0]
