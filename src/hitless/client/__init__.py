"""The shell around the core: it performs effects and reports observations."""
