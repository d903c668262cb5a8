"""The specification: every operation as its formula, for any array module. The other backends are tested against it."""
