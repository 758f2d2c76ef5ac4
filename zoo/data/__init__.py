"""From pictures to `(3, S, S)` tensors: sources, transforms, the training stream, priors of pose and light."""
