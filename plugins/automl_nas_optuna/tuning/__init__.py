"""Studies that tune the settings of searches: each trial of the study is a run."""
