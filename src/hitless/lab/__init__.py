"""Things that break on purpose: stand-in providers, a backend, a relay, drills."""
