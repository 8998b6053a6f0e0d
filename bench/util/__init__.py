"""What every other package uses, and which imports none of them."""
