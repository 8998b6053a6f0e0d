"""What can be done with a trained adapter: load, merge, convert and export it; and what that costs."""
