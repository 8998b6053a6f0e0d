"""Parameter budgets: counting, and finding the size of a method that meets one."""
