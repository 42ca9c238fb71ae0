"""What survives a process: the run directory, its ledger, checkpoints and artifacts."""
