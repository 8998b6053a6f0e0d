"""The tuners of the installed peft as methods, and the base classes of tuners of our own."""
