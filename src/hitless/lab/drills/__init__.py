"""The drills. Importing this package fills `hitless.lab.drill.CATALOGUE`, in the docs' order."""

from . import starting, breaking, deciding, recovering, local, serving  # noqa: F401, I001 -- docs' order
