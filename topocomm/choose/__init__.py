"""Which algorithm runs a collective, and why: named, measured or modelled."""
