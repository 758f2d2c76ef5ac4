"""What `heads-v2` measures: shape apart from pose, for predictions of depth and for what generators make."""
