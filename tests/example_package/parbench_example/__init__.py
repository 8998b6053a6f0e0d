"""An example of a method and a task for parbench in a package of their own."""
