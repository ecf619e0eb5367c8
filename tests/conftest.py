"""Fixtures that every floor may use. Real servers come from penstock.testing.servers."""
