"""Tables of evaluated architectures: reading, coding, and the ones that ship with the package."""
