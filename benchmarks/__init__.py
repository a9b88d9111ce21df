"""Measurements that the documentation cites; each module prints a table and writes JSON."""
