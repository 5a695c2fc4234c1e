"""Other formats of models, in and out: released PyTorch directories, Hugging Face, safetensors."""
