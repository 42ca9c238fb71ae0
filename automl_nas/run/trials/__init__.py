"""From a proposal to a recorded trial: numbering, evaluating, executors, workers."""
