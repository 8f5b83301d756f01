"""Which noise levels a model was trained with, and which timesteps a run visits."""
