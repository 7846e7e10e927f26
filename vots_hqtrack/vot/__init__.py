"""The VOT toolkit: TraX server, sequences, workspaces, evaluation."""
