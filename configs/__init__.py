"""Experiments: one file each, over default.py."""
