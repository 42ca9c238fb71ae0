"""The spaces of NAS-Bench-201 and NAS-Bench-Macro, with their networks."""
