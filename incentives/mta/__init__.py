"""Multiple task allocation: which edge server of a Metaverse platform serves which task."""
