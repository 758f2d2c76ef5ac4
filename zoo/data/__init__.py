"""Images in, `(3, S, S)` tensors out: sources, transforms, the training stream, priors of pose and light."""
