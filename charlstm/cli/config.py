"""charlstm config: the configurations that ship, and the schema by which editors check them."""

from __future__ import annotations

import click

from charlstm.cli.options import debug_option, offer, option
from charlstm.cli.streams import write
from charlstm.errors import ConfigError, UsageError


@click.command()
@click.argument("name", required=False, metavar="[NAME]", shell_complete=offer("names"))
@option("--schema", "Print the JSON Schema of a configuration, draft 7.")
@debug_option
def config(name: str | None, schema: bool) -> None:
    """List the configurations that ship, print one, to start one of your own, or print the schema
    by which an editor checks it.

    What is printed leads editors that speak YAML to the schema of this installation.
    """
    from charlstm.config import bundle

    if schema:
        if name is not None:
            raise UsageError("--schema is that of all configurations; leave out NAME")
        write(bundle.schema())
    elif name is None:
        listed = bundle.summaries()
        width = max(map(len, listed)) + 2
        write("".join(f"{name:<{width}}{text}\n" for name, text in listed.items()))
    elif name == bundle.AUTO:
        raise ConfigError("auto is no file; train chooses it: charlstm train CORPUS -c auto")
    else:
        known = bundle.bundled()
        if name not in known:
            from charlstm.config.schema import unknown_name

            raise unknown_name("config", "configuration", name, known)
        from pathlib import Path

        installed = Path(bundle.folder(), bundle.SCHEMA).as_uri()
        write(bundle.read(known[name]).replace(f"={bundle.SCHEMA}", f"={installed}", 1))
