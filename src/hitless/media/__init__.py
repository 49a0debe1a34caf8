"""Real audio and video: sources, encoded frames, peers, liveness, merging, measuring."""
