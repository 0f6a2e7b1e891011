"""What a plugin's commands are written with, beside the names in :mod:`codelupe`.

A command takes the options that all commands share, opens the database by :func:`with_session`, and prints data to
standard output, as a table or as JSON. Import this module in the one that holds the commands, not in the plugin's main
module: it is slow to import, and not needed until a command is called.
"""

from codelupe.cli.output import err, out, plain, print_json, print_table, printable
from codelupe.cli.session import AsJson, ConfigFile, Profile, Session, load, with_session

__all__ = [
    "AsJson",
    "ConfigFile",
    "Profile",
    "Session",
    "err",
    "load",
    "out",
    "plain",
    "print_json",
    "print_table",
    "printable",
    "with_session",
]
