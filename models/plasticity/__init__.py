"""Brain-inspired learning rules, a file each."""
