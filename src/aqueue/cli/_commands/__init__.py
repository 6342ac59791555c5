"""The subcommands, each a module that is named like it."""
