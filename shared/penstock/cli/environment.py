"""`penstock environment`: see asset.py."""

from penstock.cli.asset import group

command = group("environment")
