"""When a training ends early: images that it never sees, and how good its generator is by them."""
