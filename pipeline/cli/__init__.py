"""The command `tfrec`, over click: `commands/` holds a file for each command, `main` runs one."""
