"""What versions hold: the state of every asset, its checks, and what two versions differ in."""
