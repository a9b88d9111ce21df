"""A file for each command; the file's name is the command's (`pipeline.cli.command`)."""
