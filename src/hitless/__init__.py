"""Keep a live stream on air when its streaming provider fails."""
