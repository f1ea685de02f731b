"""``anatozoo info``: what the manifest, or its files, say about a checkpoint."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from anatozoo.cli.described import SOURCE_HELP, facts_of_files
from anatozoo.cli.table import WIDTH, format_fields, format_table
from anatozoo.text import printable
from anatozoo.zoo.catalogue import checkpoints, info, listed_in
from anatozoo.zoo.described import FolderFacts
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import CheckpointSpec
from anatozoo.zoo.tables import (
    input_words,
    license_words,
    limitations,
    measured_words,
    megabytes,
    split_words,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("name", metavar="NAME", help=SOURCE_HELP)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON: the entry of the manifest, or the description in the folder or training run",
    )


def run(args: argparse.Namespace) -> int:
    """Print one entry of the manifest, or the description of a folder or training run."""
    facts = facts_of_files(args.name)
    if facts is not None:
        if args.json:
            print(json.dumps(asdict(facts) | {"path": str(facts.path)}, indent=2, ensure_ascii=False))
        else:
            print(describe_files(facts), end="")
        return 0
    spec = info(args.name)
    if args.json:
        print(json.dumps(spec.to_dict(), indent=2, ensure_ascii=False))
    else:
        print(describe(spec, listed_in(spec.name)), end="")
    return 0


def describe_files(facts: FolderFacts) -> str:
    """The description of a folder or training run, in 80 columns."""
    config, method = facts.config, describe_method(facts.config.method)
    files = [f"{name}: {record.size} bytes, {record.sha256[:16]}..." for name, record in facts.files.items()]
    fields = [
        ("name", config.name),
        ("version", config.version),
        ("method", f"{method.title} ({method.paper})"),
        *([("output", method.kind.gives)] if method.kind else []),
        ("settings", settings_words(config.settings)),
        ("files", "\n".join(files)),
    ]
    text = "Nobody has described it yet: no manifest lists it."
    if any(spec.name == config.name for spec in checkpoints()):
        text = f"The manifest describes the checkpoint of this name: anatozoo info {config.name}"
    return f"{printable(format_fields(fields))}\n{text}\n"


def settings_words(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, lists and plain mappings on one line each where they fit; ``none`` without any."""
    if not settings:
        return "none"
    values = json.loads(json.dumps(dict(settings), default=str))  # tuples and what else YAML would tag
    # PyYAML breaks a line after the word that is beyond its width.
    width = WIDTH - len("settings  ") - 20
    return str(
        yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=width)
    )


def describe(spec: CheckpointSpec, private: Path | None = None) -> str:
    """The entry in 80 columns.

    Args:
        spec: the manifest's entry.
        private: the private manifest that holds it, None for the package's own.
    """
    landmarks = spec.output.landmarks or {}
    classes = [f"{c} ({landmarks[c]})" if c in landmarks else c for c in spec.output.classes]
    hub = f"{spec.hub.repo_id}@{spec.hub.revision}" if spec.hub.repo_id else "never published"
    fields = [
        ("name", spec.name),
        ("version", f"{spec.version}, {spec.status}"),
        ("method", describe_method(spec.method).title),
        ("summary", spec.summary),
        ("input", input_words(spec)),
        ("grey values", spec.input.intensity),
        ("output", ": ".join(filter(None, (spec.output.record.gives, ", ".join(classes))))),
        ("size", f"{megabytes(spec)} MB"),
        ("hub", hub),
        *([("private zoo", str(private))] if private else []),
        ("weights", license_words(spec)),
        ("data", "\n".join(f"{data.name}: {data.license}" for data in spec.training_data)),
        ("intended use", spec.intended_use),
        ("limitations", "\n".join(f"- {text}" for text in limitations(spec))),
    ]
    text = format_fields(fields)
    if spec.metrics:
        rows = [
            (
                m.dataset,
                split_words(spec, m.split),
                str(m.n or ""),
                m.metric,
                m.class_,
                measured_words(spec, m),
            )
            for m in spec.metrics
        ]
        text += "\n" + format_table(("DATA SET", "SPLIT", "N", "METRIC", "CLASS", "VALUE"), rows)
    return text + f"\nTerms, commands behind the numbers, citation: anatozoo card {spec.name}\n"
