"""Checks the contract of a task.

Usage in a package's own tests::

    from parbench.tasks.testing import check_task

    def test_my_task():
        check_task(MY_TASK).raise_for_failures()
"""

from parbench.tasks.testing.check import TaskContractError, TaskReport, check_task

__all__ = ["TaskContractError", "TaskReport", "check_task"]
