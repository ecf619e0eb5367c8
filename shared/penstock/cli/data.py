"""`penstock data`: see asset.py."""

from penstock.cli.asset import group

command = group("data")
