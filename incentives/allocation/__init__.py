"""Edge-server allocation: capacity shared by mobile-edge tasks, training and consensus."""
