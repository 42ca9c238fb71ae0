"""What an Optuna objective and study of your own use: architectures, evaluators and strategies of this framework."""
