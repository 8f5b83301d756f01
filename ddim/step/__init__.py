"""The equations of DDIM, and one step of it on tensors."""
