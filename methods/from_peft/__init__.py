"""Methods of the installed peft."""
