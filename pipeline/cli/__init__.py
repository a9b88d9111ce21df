"""The command `tfrec`."""
